-- One row per sum in a rollup that is not the sum of the calls: what is kept, what the calls say.
-- parameters: hours Array(DateTime('UTC'))
SELECT rollup, at, kind, figure, kept, counted
FROM
(
    SELECT 'cost_hourly' AS rollup, hour AS at, kind, found.1 AS figure, found.2 AS kept, found.3 AS counted
    FROM
    (
        SELECT
            toStartOfHour(started_at) AS hour,
            [service_name, environment, project, team, feature, model, response_tier]::Array(String) AS kind,
            arrayFilter(f -> f.2 != f.3, [
                ('calls', toString(sumIf(calls, is_kept)), toString(sumIf(calls, NOT is_kept))),
                ('errors', toString(sumIf(errors, is_kept)), toString(sumIf(errors, NOT is_kept))),
                ('priced_calls', toString(sumIf(priced_calls, is_kept)), toString(sumIf(priced_calls, NOT is_kept))),
                ('unpriced_calls', toString(sumIf(unpriced_calls, is_kept)), toString(sumIf(unpriced_calls, NOT is_kept))),
                ('input_tokens', toString(sumIf(input_tokens, is_kept)), toString(sumIf(input_tokens, NOT is_kept))),
                ('cached_tokens', toString(sumIf(cached_tokens, is_kept)), toString(sumIf(cached_tokens, NOT is_kept))),
                ('cache_write_tokens', toString(sumIf(cache_write_tokens, is_kept)), toString(sumIf(cache_write_tokens, NOT is_kept))),
                ('output_tokens', toString(sumIf(output_tokens, is_kept)), toString(sumIf(output_tokens, NOT is_kept))),
                ('reasoning_tokens', toString(sumIf(reasoning_tokens, is_kept)), toString(sumIf(reasoning_tokens, NOT is_kept))),
                ('cost_usd', toString(sumIf(cost_usd, is_kept)), toString(sumIf(cost_usd, NOT is_kept))),
                ('list_cost_usd', toString(sumIf(list_cost_usd, is_kept)), toString(sumIf(list_cost_usd, NOT is_kept))),
                ('cost_parts_usd', toString(sumMapIf(cost_parts_usd, is_kept)), toString(sumMapIf(cost_parts_usd, NOT is_kept))),
                ('part_calls', toString(sumMapIf(part_calls, is_kept)), toString(sumMapIf(part_calls, NOT is_kept)))
            ]) AS figures
        FROM
        (
            SELECT * EXCEPT (user, duration_us, time_to_first_chunk_us), false AS is_kept
            FROM calls_of_hours(hours = {hours:Array(DateTime('UTC'))})
            UNION ALL
            SELECT * EXCEPT (version, is_deleted), true
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
            UNION ALL
            SELECT day, service_name, feature, model, calls, errors, sum_duration_us, true
            FROM latency_daily FINAL
            WHERE day >= toStartOfDay(arrayMin({hours:Array(DateTime('UTC'))}))
                AND day <= arrayMax({hours:Array(DateTime('UTC'))})
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
            [environment, service, team, project, key, feature, model, prompt, error_kind]::Array(String) AS kind,
            arrayConcat(
                arrayMap(f -> (f.1, toString(f.2), toString(f.3)), arrayFilter(f -> f.2 != f.3, [
                    ('calls', sumIf(calls, is_kept), sumIf(calls, NOT is_kept)),
                    ('attempts', sumIf(attempts, is_kept), sumIf(attempts, NOT is_kept)),
                    ('input_tokens', sumIf(input_tokens, is_kept), sumIf(input_tokens, NOT is_kept)),
                    ('cached_tokens', sumIf(cached_tokens, is_kept), sumIf(cached_tokens, NOT is_kept)),
                    ('output_tokens', sumIf(output_tokens, is_kept), sumIf(output_tokens, NOT is_kept)),
                    ('cost_pico', sumIf(cost_pico, is_kept), sumIf(cost_pico, NOT is_kept)),
                    ('input_cost_pico', sumIf(input_cost_pico, is_kept), sumIf(input_cost_pico, NOT is_kept)),
                    ('cached_cost_pico', sumIf(cached_cost_pico, is_kept), sumIf(cached_cost_pico, NOT is_kept)),
                    ('output_cost_pico', sumIf(output_cost_pico, is_kept), sumIf(output_cost_pico, NOT is_kept)),
                    ('priced_calls', sumIf(priced_calls, is_kept), sumIf(priced_calls, NOT is_kept)),
                    ('unpriced_calls', sumIf(unpriced_calls, is_kept), sumIf(unpriced_calls, NOT is_kept)),
                    ('timed_calls', sumIf(timed_calls, is_kept), sumIf(timed_calls, NOT is_kept)),
                    ('streamed_calls', sumIf(streamed_calls, is_kept), sumIf(streamed_calls, NOT is_kept)),
                    ('paced_calls', sumIf(paced_calls, is_kept), sumIf(paced_calls, NOT is_kept)),
                    ('late_calls', sumIf(late_calls, is_kept), sumIf(late_calls, NOT is_kept)),
                    ('ahead_calls', sumIf(ahead_calls, is_kept), sumIf(ahead_calls, NOT is_kept))
                ])),
                -- Sums of fractions depend on the order in which they are added.
                arrayMap(f -> (f.1, toString(f.2), toString(f.3)), arrayFilter(f -> abs(f.2 - f.3) > 1e-9 * greatest(abs(f.2), abs(f.3)), [
                    ('log_duration', sumIf(log_duration, is_kept), sumIf(log_duration, NOT is_kept)),
                    ('log_duration_squared', sumIf(log_duration_squared, is_kept), sumIf(log_duration_squared, NOT is_kept)),
                    ('log_first_chunk', sumIf(log_first_chunk, is_kept), sumIf(log_first_chunk, NOT is_kept)),
                    ('log_first_chunk_squared', sumIf(log_first_chunk_squared, is_kept), sumIf(log_first_chunk_squared, NOT is_kept)),
                    ('log_pace', sumIf(log_pace, is_kept), sumIf(log_pace, NOT is_kept)),
                    ('log_pace_squared', sumIf(log_pace_squared, is_kept), sumIf(log_pace_squared, NOT is_kept)),
                    ('cost_usd_squared', sumIf(cost_usd_squared, is_kept), sumIf(cost_usd_squared, NOT is_kept))
                ]))
            ) AS figures
        FROM
        (
            SELECT
                toStartOfFiveMinutes(started_at) AS slot, environment, service, team, project, key, feature, model, prompt, error_kind,
                calls, attempts, input_tokens, cached_tokens, output_tokens, cost_pico, input_cost_pico, cached_cost_pico, output_cost_pico, priced_calls, unpriced_calls, timed_calls, streamed_calls, paced_calls, late_calls, ahead_calls, log_duration, log_duration_squared, log_first_chunk, log_first_chunk_squared, log_pace, log_pace_squared, cost_usd_squared,
                false AS is_kept
            FROM call_signals(
                since = toDateTime64(arrayMin({hours:Array(DateTime('UTC'))}), 6, 'UTC'),
                until = toDateTime64(arrayMax({hours:Array(DateTime('UTC'))}), 6, 'UTC') + INTERVAL 1 HOUR)
            WHERE toStartOfHour(started_at) IN {hours:Array(DateTime('UTC'))}
            UNION ALL
            SELECT
                slot, environment, service, team, project, key, feature, model, prompt, error_kind,
                calls, attempts, input_tokens, cached_tokens, output_tokens, cost_pico, input_cost_pico, cached_cost_pico, output_cost_pico, priced_calls, unpriced_calls, timed_calls, streamed_calls, paced_calls, late_calls, ahead_calls, log_duration, log_duration_squared, log_first_chunk, log_first_chunk_squared, log_pace, log_pace_squared, cost_usd_squared,
                true
            FROM signals_5m FINAL
            WHERE toStartOfHour(slot) IN {hours:Array(DateTime('UTC'))}
        )
        GROUP BY slot, kind
    )
    ARRAY JOIN figures AS found
)
ORDER BY at, rollup, kind, figure
