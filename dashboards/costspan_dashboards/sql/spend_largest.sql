-- One row per value of a dimension, the largest first: those that a chart has room for.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), teams Array(String),
--   features Array(String), models Array(String), projects Array(String),
--   by_hour Bool, by String ('model', 'team', 'feature', 'user', 'project' or 'tier'),
--   measure String ('usd' or 'tokens'), room UInt32
SELECT multiIf(
        {by:String} = 'model', c.model,
        {by:String} = 'team', c.team,
        {by:String} = 'feature', c.feature,
        {by:String} = 'user', c.user,
        {by:String} = 'project', c.project,
        {by:String} = 'tier', c.response_tier,
        throwIf(true, 'by is none of model, team, feature, user, project, tier')::String) AS value
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
GROUP BY value
ORDER BY
    if({measure:String} = 'usd' AND sum(c.priced_calls) > 0, sum(c.cost_usd), NULL) DESC NULLS LAST,
    sum(c.input_tokens) + sum(c.output_tokens) DESC,
    value
LIMIT {room:UInt32}
