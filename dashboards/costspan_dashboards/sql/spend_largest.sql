-- One row per value of a dimension, the largest first: those that a chart has room for.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), teams Array(String),
--   features Array(String), models Array(String), projects Array(String),
--   by String ('model', 'team', 'feature', 'user', 'project' or 'tier'),
--   measure String ('usd' or 'tokens'), room UInt32
SELECT multiIf(
        {by:String} = 'model', if(c.response_model = '', c.request_model, c.response_model),
        {by:String} = 'team', c.team,
        {by:String} = 'feature', c.feature,
        {by:String} = 'user', c.user,
        {by:String} = 'project', c.project,
        {by:String} = 'tier', c.response_tier,
        throwIf(true, 'by is none of model, team, feature, user, project, tier')::String) AS value
FROM calls AS c FINAL
WHERE c.started_at >= {since:DateTime64(6, 'UTC')} AND c.started_at < {until:DateTime64(6, 'UTC')}
    AND (empty({teams:Array(String)}) OR c.team IN {teams:Array(String)})
    AND (empty({features:Array(String)}) OR c.feature IN {features:Array(String)})
    AND (empty({models:Array(String)}) OR if(c.response_model = '', c.request_model, c.response_model) IN {models:Array(String)})
    AND (empty({projects:Array(String)}) OR c.project IN {projects:Array(String)})
GROUP BY value
ORDER BY
    if({measure:String} = 'usd', sum(c.cost_usd), NULL) DESC NULLS LAST,
    sum(ifNull(c.input_tokens, 0) + ifNull(c.output_tokens, 0)) DESC,
    value
LIMIT {room:UInt32}
