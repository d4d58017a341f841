-- One row per UTC day in which the answer ended, project, key hint, model, tier, context and
-- meter: what the spans counted, and what we estimated for it. `uncounted_calls` have money but
-- no quantity on the meter (audio, tools, a span without token counts), `unpriced_calls` have a quantity but no price.
-- parameters: since Date, until Date
SELECT
    day,
    project,
    key_hint,
    model,
    tier,
    context,
    tupleElement(entry, 1) AS meter,
    count() AS calls,
    countIf(tupleElement(entry, 2) IS NULL) AS uncounted_calls,
    countIf(tupleElement(entry, 3) IS NULL) AS unpriced_calls,
    toUInt64(ifNull(sum(tupleElement(entry, 2)), 0)) AS quantity,
    toUInt64(ifNull(sumIf(tupleElement(entry, 2), tupleElement(entry, 3) IS NOT NULL), 0)) AS priced_quantity,
    ifNull(sum(tupleElement(entry, 3)), 0) AS estimated_usd
FROM
(
    SELECT
        toDate(started_at + toIntervalMicrosecond(duration_us), 'UTC') AS day,
        project,
        key_hint,
        model,
        response_tier AS tier,
        if(splitByChar('/', price_path)[3] = 'long', 'long', 'short') AS context,
        ifNull(input_tokens, 0) AS input_all,
        ifNull(cached_tokens, 0) AS cached,
        ifNull(cache_write_tokens, 0) AS written,
        -- Audio and image tokens are inside input and output, and no column tells them apart.
        arrayExists(
            part -> part LIKE 'audio%' OR part LIKE 'image_input%' OR part LIKE 'image_output%',
            mapKeys(cost_parts_usd)
        ) AS mixed,
        cost_usd IS NOT NULL AND length(cost_parts_usd) = 0 AS whole,
        arrayJoin(
            arrayConcat(
                arrayFilter(
                    entry -> (NOT whole) AND if(
                        mixed, mapContains(cost_parts_usd, tupleElement(entry, 1)), ifNull(tupleElement(entry, 2) > 0, 0) OR ifNull(tupleElement(entry, 3), 0) != 0
                    ),
                    [
                        tuple('input', if(mixed OR input_tokens IS NULL, NULL, toInt64(input_all - cached - written)), if(cost_usd IS NULL, NULL, cost_parts_usd['input'])),
                        tuple('cached_input', if(mixed OR input_tokens IS NULL, NULL, toInt64(cached)), if(cost_usd IS NULL, NULL, cost_parts_usd['cached_input'])),
                        tuple('cache_write', if(mixed OR input_tokens IS NULL, NULL, toInt64(written)), if(cost_usd IS NULL, NULL, cost_parts_usd['cache_write_30m'] + cost_parts_usd['cache_write_12h'])),
                        tuple('output', if(mixed OR output_tokens IS NULL, NULL, toInt64(output_tokens)), if(cost_usd IS NULL, NULL, cost_parts_usd['output']))
                    ]
                ),
                arrayMap(
                    part -> tuple(part, CAST(NULL, 'Nullable(Int64)'), toNullable(cost_parts_usd[part])),
                    arrayFilter(
                        part -> part NOT IN ('input', 'cached_input', 'cache_write_30m', 'cache_write_12h', 'output'),
                        if(cost_usd IS NULL, [], mapKeys(cost_parts_usd))
                    )
                ),
                if(whole AND cost_usd != 0, [tuple('all', CAST(NULL, 'Nullable(Int64)'), cost_usd)], [])
            )
        ) AS entry
    FROM calls FINAL
    WHERE
        started_at >= {since:Date} - INTERVAL 1 DAY
        AND started_at < {until:Date}
        AND provider IN ('', 'openai')
)
WHERE day >= {since:Date} AND day < {until:Date}
GROUP BY day, project, key_hint, model, tier, context, meter
ORDER BY day, project, key_hint, model, tier, context, meter
