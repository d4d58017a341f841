-- A row: one call to look at: the dearest, the slowest or the latest failed one of a cause.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), rule String, feature String,
--   model String, team String, user String, project String, key String, error_type String
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
    AND ({rule:String} != 'errors' OR status = 'error')
    AND ({rule:String} != 'latency' OR status = 'ok')
    AND ({feature:String} = '' OR feature = {feature:String})
    AND ({model:String} = '' OR if(({rule:String} = 'errors' AND request_model != '') OR response_model = '', request_model, response_model) = {model:String})
    AND ({team:String} = '' OR team = {team:String})
    AND ({user:String} = '' OR user = {user:String})
    AND ({project:String} = '' OR project = {project:String})
    AND ({key:String} = '' OR key_hint = {key:String})
    AND ({error_type:String} = '' OR if(error_type = '', 'unknown', error_type) = {error_type:String})
ORDER BY
    multiIf({rule:String} = 'spend', toFloat64(ifNull(calls.cost_usd, 0)), {rule:String} = 'latency', toFloat64(calls.duration_us), 0.) DESC,
    calls.started_at DESC
LIMIT 3
