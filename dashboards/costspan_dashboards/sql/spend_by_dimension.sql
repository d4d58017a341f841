-- One row per step of time and value of a dimension. Values without a place of their own in
-- `largest` are one row, is_other. With step_seconds 0 there is one step, the whole stretch.
-- cost_usd is NULL where no call of the row has a price.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), teams Array(String),
--   features Array(String), models Array(String), projects Array(String),
--   by String ('model', 'team', 'feature', 'user', 'project' or 'tier'),
--   largest Array(String), step_seconds UInt32
SELECT
    if({step_seconds:UInt32} = 0,
        {since:DateTime64(6, 'UTC')},
        toStartOfInterval(c.started_at, toIntervalSecond(greatest({step_seconds:UInt32}, 1)))) AS step,
    multiIf(
        {by:String} = 'model', if(c.response_model = '', c.request_model, c.response_model),
        {by:String} = 'team', c.team,
        {by:String} = 'feature', c.feature,
        {by:String} = 'user', c.user,
        {by:String} = 'project', c.project,
        {by:String} = 'tier', c.response_tier,
        throwIf(true, 'by is none of model, team, feature, user, project, tier')::String) NOT IN {largest:Array(String)} AS is_other,
    if(is_other, '', multiIf(
        {by:String} = 'model', if(c.response_model = '', c.request_model, c.response_model),
        {by:String} = 'team', c.team,
        {by:String} = 'feature', c.feature,
        {by:String} = 'user', c.user,
        {by:String} = 'project', c.project,
        {by:String} = 'tier', c.response_tier,
        throwIf(true, 'by is none of model, team, feature, user, project, tier')::String)) AS value,
    if(countIf(c.cost_usd IS NOT NULL) = 0 AND countIf(c.unpriced) > 0, NULL, sum(ifNull(c.cost_usd, 0))) AS cost_usd,
    toUInt64(sum(ifNull(c.input_tokens, 0)) + sum(ifNull(c.output_tokens, 0))) AS tokens,
    count() AS calls,
    countIf(c.unpriced) AS unpriced
FROM calls AS c FINAL
WHERE c.started_at >= {since:DateTime64(6, 'UTC')} AND c.started_at < {until:DateTime64(6, 'UTC')}
    AND (empty({teams:Array(String)}) OR c.team IN {teams:Array(String)})
    AND (empty({features:Array(String)}) OR c.feature IN {features:Array(String)})
    AND (empty({models:Array(String)}) OR if(c.response_model = '', c.request_model, c.response_model) IN {models:Array(String)})
    AND (empty({projects:Array(String)}) OR c.project IN {projects:Array(String)})
GROUP BY step, is_other, value
ORDER BY step, is_other, value
