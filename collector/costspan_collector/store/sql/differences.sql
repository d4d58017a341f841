-- One row per sum in a rollup that is not the sum of the calls: what is kept, what the calls say.
-- parameters: hours Array(DateTime('UTC'))
SELECT rollup, at, kind, figure, kept, counted
FROM
(
    SELECT 'cost_hourly' AS rollup, hour AS at, kind, found.1 AS figure, found.2 AS kept, found.3 AS counted
    FROM
    (
        SELECT
            hour,
            kind,
            arrayFilter(f -> f.2 != f.3, arrayZip(
                ['calls', 'errors', 'priced_calls', 'unpriced_calls', 'input_tokens', 'cached_tokens', 'cache_write_tokens', 'output_tokens', 'reasoning_tokens', 'cost_usd', 'list_cost_usd', 'cost_parts_usd', 'part_calls'],
                arrayConcat(
                    arrayMap(n -> toString(n), arrayResize(sumForEachIf(counts, is_kept), 9)),
                    arrayMap(usd -> toString(usd), arrayResize(sumForEachIf(costs, is_kept), 2)),
                    [toString(sumMapIf(cost_parts_usd, is_kept)), toString(sumMapIf(part_calls, is_kept))]),
                arrayConcat(
                    arrayMap(n -> toString(n), arrayResize(sumForEachIf(counts, NOT is_kept), 9)),
                    arrayMap(usd -> toString(usd), arrayResize(sumForEachIf(costs, NOT is_kept), 2)),
                    [toString(sumMapIf(cost_parts_usd, NOT is_kept)), toString(sumMapIf(part_calls, NOT is_kept))])
            )) AS figures
        FROM
        (
            SELECT
                toStartOfHour(started_at) AS hour,
                [service_name, environment, project, team, feature, model, response_tier]::Array(String) AS kind,
                [calls, errors, priced_calls, unpriced_calls, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens]::Array(UInt64) AS counts,
                [cost_usd, list_cost_usd] AS costs,
                cost_parts_usd,
                part_calls,
                false AS is_kept
            FROM calls_of_hours(hours = {hours:Array(DateTime('UTC'))})
            UNION ALL
            SELECT
                hour,
                [service_name, environment, project, team, feature, model, response_tier],
                [calls, errors, priced_calls, unpriced_calls, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens],
                [cost_usd, list_cost_usd],
                cost_parts_usd,
                part_calls,
                true
            FROM cost_hourly FINAL
            WHERE hour IN {hours:Array(DateTime('UTC'))}
        )
        GROUP BY hour, kind
    )
    ARRAY JOIN figures AS found
    UNION ALL
    SELECT 'latency_5m' AS rollup, slot AS at, kind, found.1 AS figure, found.2 AS kept, found.3 AS counted
    FROM
    (
        SELECT
            toStartOfFiveMinutes(started_at) AS slot,
            [service_name, feature, model]::Array(String) AS kind,
            arrayFilter(f -> f.2 != f.3, [
                ('calls', toString(sumIf(calls, is_kept)), toString(sumIf(calls, NOT is_kept))),
                ('errors', toString(sumIf(errors, is_kept)), toString(sumIf(errors, NOT is_kept))),
                ('sum_duration_us', toString(sumIf(worked_us, is_kept)), toString(sumIf(worked_us, NOT is_kept)))
            ]) AS figures
        FROM
        (
            SELECT started_at, service_name, feature, model, calls, errors, if(errors = 0, duration_us, 0) AS worked_us, false AS is_kept
            FROM calls_of_hours(hours = {hours:Array(DateTime('UTC'))})
            UNION ALL
            SELECT slot, service_name, feature, model, calls, errors, sum_duration_us, true
            FROM latency_5m FINAL
            WHERE toStartOfHour(slot) IN {hours:Array(DateTime('UTC'))}
        )
        GROUP BY slot, kind
    )
    ARRAY JOIN figures AS found
    UNION ALL
    SELECT 'latency_daily' AS rollup, day AS at, kind, found.1 AS figure, found.2 AS kept, found.3 AS counted
    FROM
    (
        SELECT
            day,
            [service_name, feature, model]::Array(String) AS kind,
            arrayFilter(f -> f.2 != f.3, [
                ('calls', toString(sumIf(calls, is_kept)), toString(sumIf(calls, NOT is_kept))),
                ('errors', toString(sumIf(errors, is_kept)), toString(sumIf(errors, NOT is_kept))),
                ('sum_duration_us', toString(sumIf(sum_duration_us, is_kept)), toString(sumIf(sum_duration_us, NOT is_kept)))
            ]) AS figures
        FROM
        (
            SELECT toStartOfDay(slot) AS day, service_name, feature, model, calls, errors, sum_duration_us, false AS is_kept
            FROM latency_5m FINAL
            WHERE slot >= toStartOfDay(arrayMin({hours:Array(DateTime('UTC'))}))
                AND slot < toStartOfDay(arrayMax({hours:Array(DateTime('UTC'))})) + INTERVAL 1 DAY
                AND toStartOfDay(slot) IN arrayMap(hour -> toStartOfDay(hour), {hours:Array(DateTime('UTC'))})
            UNION ALL
            SELECT day, service_name, feature, model, calls, errors, sum_duration_us, true
            FROM latency_daily FINAL
            WHERE day IN arrayMap(hour -> toStartOfDay(hour), {hours:Array(DateTime('UTC'))})
        )
        GROUP BY day, kind
    )
    ARRAY JOIN figures AS found
    UNION ALL
    SELECT 'signals_5m' AS rollup, slot AS at, kind, found.1 AS figure, found.2 AS kept, found.3 AS counted
    FROM
    (
        SELECT
            slot,
            kind,
            arrayConcat(
                arrayMap(f -> (f.1, toString(f.2), toString(f.3)), arrayFilter(f -> f.2 != f.3, arrayZip(
                    ['calls', 'attempts', 'input_tokens', 'cached_tokens', 'output_tokens', 'cost_pico', 'input_cost_pico', 'cached_cost_pico', 'output_cost_pico', 'priced_calls', 'unpriced_calls', 'timed_calls', 'streamed_calls', 'paced_calls', 'late_calls', 'ahead_calls'],
                    arrayResize(sumForEachIf(counts, is_kept), 16),
                    arrayResize(sumForEachIf(counts, NOT is_kept), 16)))),
                -- Sums of fractions depend on the order in which they are added.
                arrayMap(f -> (f.1, toString(f.2), toString(f.3)), arrayFilter(f -> abs(f.2 - f.3) > 1e-9 * greatest(abs(f.2), abs(f.3)), arrayZip(
                    ['log_duration', 'log_duration_squared', 'log_first_chunk', 'log_first_chunk_squared', 'log_pace', 'log_pace_squared', 'cost_usd_squared'],
                    arrayResize(sumForEachIf(fractions, is_kept), 7),
                    arrayResize(sumForEachIf(fractions, NOT is_kept), 7))))
            ) AS figures
        FROM
        (
            SELECT
                toStartOfFiveMinutes(started_at) AS slot,
                [environment, service, team, project, key, feature, model, prompt, error_kind] AS kind,
                [calls, attempts, input_tokens, cached_tokens, output_tokens, cost_pico, input_cost_pico, cached_cost_pico, output_cost_pico, priced_calls, unpriced_calls, timed_calls, streamed_calls, paced_calls, late_calls, ahead_calls] AS counts,
                [log_duration, log_duration_squared, log_first_chunk, log_first_chunk_squared, log_pace, log_pace_squared, cost_usd_squared] AS fractions,
                false AS is_kept
            FROM call_signals(
                since = toDateTime64(arrayMin({hours:Array(DateTime('UTC'))}), 6, 'UTC'),
                until = toDateTime64(arrayMax({hours:Array(DateTime('UTC'))}), 6, 'UTC') + INTERVAL 1 HOUR)
            WHERE toStartOfHour(started_at) IN {hours:Array(DateTime('UTC'))}
            UNION ALL
            SELECT
                slot,
                [environment, service, team, project, key, feature, model, prompt, error_kind],
                [calls, attempts, input_tokens, cached_tokens, output_tokens, cost_pico, input_cost_pico, cached_cost_pico, output_cost_pico, priced_calls, unpriced_calls, timed_calls, streamed_calls, paced_calls, late_calls, ahead_calls],
                [log_duration, log_duration_squared, log_first_chunk, log_first_chunk_squared, log_pace, log_pace_squared, cost_usd_squared],
                true
            FROM signals_5m FINAL
            WHERE toStartOfHour(slot) IN {hours:Array(DateTime('UTC'))}
        )
        GROUP BY slot, kind
    )
    ARRAY JOIN figures AS found
)
ORDER BY at, rollup, kind, figure
