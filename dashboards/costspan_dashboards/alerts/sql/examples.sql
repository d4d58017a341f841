-- A row: one call to look at: the dearest, the slowest or the latest failed one of a cause.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), rule String, feature String,
--   model String, prompt String, team String, user String, project String, key String,
--   service String, environment String, error_kind String
SELECT
    lower(hex(trace_id)) AS trace_id,
    lower(hex(span_id)) AS span_id,
    started_at,
    duration_us,
    cost_usd,
    if(status = 'ok', '', toString(error_type)) AS error_type,
    unpriced
FROM calls FINAL
WHERE started_at >= {since:DateTime('UTC')} AND started_at < {until:DateTime('UTC')}
    AND ({rule:String} NOT IN ('errors', 'rate_limited') OR status = 'error' OR retries > 0)
    AND ({rule:String} != 'retries' OR retries > 0)
    AND ({rule:String} != 'unpriced' OR unpriced)
    AND ({rule:String} NOT IN ('latency', 'spend', 'entity_spend', 'unit_cost', 'cache') OR status = 'ok')
    AND ({feature:String} = '' OR feature = {feature:String})
    AND ({model:String} = '' OR request_model = {model:String} OR model = {model:String})
    AND ({prompt:String} = '' OR prompt = {prompt:String})
    AND ({team:String} = '' OR team = {team:String})
    AND ({user:String} = '' OR user = {user:String})
    AND ({project:String} = '' OR project = {project:String})
    AND ({key:String} = '' OR key_hint = {key:String})
    AND ({service:String} = '' OR service_name = {service:String})
    AND ({environment:String} = '' OR environment = {environment:String})
    AND ({error_kind:String} = '' OR error_kind = {error_kind:String} OR retries > 0)
ORDER BY
    status = 'error' AND {rule:String} IN ('errors', 'rate_limited') DESC,
    multiIf(
        {rule:String} IN ('spend', 'entity_spend', 'unit_cost'), toFloat64(ifNull(calls.cost_usd, 0)),
        {rule:String} = 'latency', toFloat64(calls.duration_us),
        {rule:String} = 'retries', toFloat64(calls.retries),
        0.) DESC,
    calls.started_at DESC
LIMIT 3
