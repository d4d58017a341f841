-- A row: a cell of the past, by stretches of so many minutes.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), minutes UInt16
SELECT
    toInt64(intDiv(toUnixTimestamp(slot), {minutes:UInt16} * 60) * {minutes:UInt16}) AS minute,
    environment,
    service,
    team,
    project,
    key,
    feature,
    model,
    prompt,
    error_kind,
    sum(s.calls) AS calls,
    sum(s.attempts) AS attempts,
    sum(s.input_tokens) AS input_tokens,
    sum(s.cached_tokens) AS cached_tokens,
    sum(s.output_tokens) AS output_tokens,
    sum(s.cost_pico) AS cost_pico,
    sum(s.input_cost_pico) AS input_cost_pico,
    sum(s.cached_cost_pico) AS cached_cost_pico,
    sum(s.output_cost_pico) AS output_cost_pico,
    sum(s.priced_calls) AS priced_calls,
    sum(s.unpriced_calls) AS unpriced_calls,
    sum(s.timed_calls) AS timed_calls,
    sum(s.streamed_calls) AS streamed_calls,
    sum(s.paced_calls) AS paced_calls,
    sum(s.late_calls) AS late_calls,
    sum(s.ahead_calls) AS ahead_calls,
    sum(s.log_duration) AS log_duration,
    sum(s.log_duration_squared) AS log_duration_squared,
    sum(s.log_first_chunk) AS log_first_chunk,
    sum(s.log_first_chunk_squared) AS log_first_chunk_squared,
    sum(s.log_pace) AS log_pace,
    sum(s.log_pace_squared) AS log_pace_squared,
    sum(s.cost_usd_squared) AS cost_usd_squared
FROM signals_5m AS s FINAL
WHERE slot >= {since:DateTime('UTC')} AND slot < {until:DateTime('UTC')}
GROUP BY minute, environment, service, team, project, key, feature, model, prompt, error_kind
ORDER BY minute
