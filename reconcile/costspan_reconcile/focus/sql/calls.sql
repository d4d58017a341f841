-- One row per call that began in an hour, without what was said in it. Empty texts are NULL.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC')
SELECT
    started_at,
    lower(hex(trace_id)) AS trace_id,
    lower(hex(span_id)) AS span_id,
    nullIf(toString(service_name), '') AS service_name,
    nullIf(toString(environment), '') AS environment,
    nullIf(toString(operation), '') AS operation,
    nullIf(toString(provider), '') AS provider,
    nullIf(toString(request_model), '') AS request_model,
    nullIf(toString(response_model), '') AS response_model,
    nullIf(toString(response_tier), '') AS service_tier,
    nullIf(toString(project), '') AS project,
    nullIf(toString(team), '') AS team,
    nullIf(toString(feature), '') AS feature,
    nullIf(user, '') AS user,
    nullIf(customer, '') AS customer,
    toString(status) AS status,
    nullIf(toString(error_type), '') AS error_type,
    toUInt64(retries) AS retries,
    duration_us,
    time_to_first_chunk_us,
    input_tokens,
    cached_tokens,
    cache_write_tokens,
    output_tokens,
    reasoning_tokens,
    cost_usd,
    list_cost_usd,
    nullIf(toString(price_status), '') AS price_status,
    nullIf(toString(price_book), '') AS price_book
FROM calls FINAL
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
ORDER BY started_at, trace_id, span_id
