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
)
ORDER BY at, rollup, kind, figure
