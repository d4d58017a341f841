-- One row per call, newest or most expensive first.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), teams Array(String),
--   features Array(String), models Array(String), projects Array(String),
--   only String ('', 'errors' or 'unpriced'), order String ('newest' or 'cost'), most UInt32
SELECT
    c.started_at AS started_at,
    lower(hex(c.trace_id)) AS trace_id,
    lower(hex(c.span_id)) AS span_id,
    c.service_name AS service_name,
    c.api_type AS api_type,
    c.model AS model,
    c.team AS team,
    c.feature AS feature,
    c.project AS project,
    c.status AS status,
    c.error_type AS error_type,
    c.error_code AS error_code,
    c.duration_us AS duration_us,
    c.retries AS retries,
    c.input_tokens AS input_tokens,
    c.output_tokens AS output_tokens,
    c.cost_usd AS cost_usd,
    c.unpriced AS unpriced,
    c.price_status AS price_status
FROM calls AS c FINAL
WHERE c.started_at >= {since:DateTime64(6, 'UTC')} AND c.started_at < {until:DateTime64(6, 'UTC')}
    AND (empty({teams:Array(String)}) OR c.team IN {teams:Array(String)})
    AND (empty({features:Array(String)}) OR c.feature IN {features:Array(String)})
    AND (empty({models:Array(String)}) OR c.model IN {models:Array(String)})
    AND (empty({projects:Array(String)}) OR c.project IN {projects:Array(String)})
    AND ({only:String} != 'errors' OR c.status = 'error')
    AND ({only:String} != 'unpriced' OR c.unpriced)
ORDER BY if({order:String} = 'cost', c.cost_usd, NULL) DESC NULLS LAST, c.started_at DESC, c.trace_id, c.span_id
LIMIT {most:UInt32}
