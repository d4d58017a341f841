-- One row per step of time and value of a dimension. Values without a place of their own in
-- `largest` are one row, is_other. With step_seconds 0 there is one step, the whole stretch.
-- cost_usd is NULL where no call of the row has a price.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), teams Array(String),
--   features Array(String), models Array(String), projects Array(String),
--   by_hour Bool, by String ('model', 'team', 'feature', 'user', 'project' or 'tier'),
--   largest Array(String), step_seconds UInt32
SELECT
    if({step_seconds:UInt32} = 0,
        {since:DateTime64(6, 'UTC')},
        toStartOfInterval(c.started_at, toIntervalSecond(greatest({step_seconds:UInt32}, 1)))) AS step,
    multiIf(
        {by:String} = 'model', c.model,
        {by:String} = 'team', c.team,
        {by:String} = 'feature', c.feature,
        {by:String} = 'user', c.user,
        {by:String} = 'project', c.project,
        {by:String} = 'tier', c.response_tier,
        throwIf(true, 'by is none of model, team, feature, user, project, tier')::String) NOT IN {largest:Array(String)} AS is_other,
    if(is_other, '', multiIf(
        {by:String} = 'model', c.model,
        {by:String} = 'team', c.team,
        {by:String} = 'feature', c.feature,
        {by:String} = 'user', c.user,
        {by:String} = 'project', c.project,
        {by:String} = 'tier', c.response_tier,
        throwIf(true, 'by is none of model, team, feature, user, project, tier')::String)) AS value,
    if(sum(c.priced_calls) = 0 AND sum(c.unpriced_calls) > 0, NULL, sum(c.cost_usd)) AS cost_usd,
    sum(c.input_tokens) + sum(c.output_tokens) AS tokens,
    sum(c.calls) AS calls,
    sum(c.unpriced_calls) AS unpriced
FROM costs(
    since = {since:DateTime64(6, 'UTC')},
    until = {until:DateTime64(6, 'UTC')},
    counted = (
        SELECT groupArray(hour)
        FROM counted_hours(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, by_hour = {by_hour:Bool})
    )
) AS c
WHERE (empty({teams:Array(String)}) OR c.team IN {teams:Array(String)})
    AND (empty({features:Array(String)}) OR c.feature IN {features:Array(String)})
    AND (empty({models:Array(String)}) OR c.model IN {models:Array(String)})
    AND (empty({projects:Array(String)}) OR c.project IN {projects:Array(String)})
GROUP BY step, is_other, value
ORDER BY step, is_other, value
