-- One row per reconciled day, newest first. `read_at` is when its bill was last read with success.
-- parameters: since Date, until Date
SELECT
    days.day AS day,
    day_state,
    verdict,
    reason,
    billed_usd,
    days.estimated_usd AS estimated_usd,
    if(billed_usd IS NULL, NULL, parts.coverage_usd) AS coverage_usd,
    if(billed_usd IS NULL, NULL, parts.metering_usd) AS metering_usd,
    if(billed_usd IS NULL, NULL, parts.rate_usd) AS rate_usd,
    if(billed_usd IS NULL, NULL, parts.unsplit_usd) AS unsplit_usd,
    if(billed_usd IS NULL, NULL, parts.captured_usd) AS captured_usd,
    calls,
    unpriced_calls,
    if(read.day = days.day, toNullable(read.read_at), NULL) AS read_at
FROM
(
    SELECT day, day_state, verdict, reason, billed_usd, estimated_usd, calls, unpriced_calls
    FROM current_recon_days
    WHERE day >= {since:Date} AND day < {until:Date}
) AS days
LEFT JOIN
(
    SELECT
        day,
        sum(ifNull(coverage_usd, 0)) AS coverage_usd,
        sum(ifNull(metering_usd, 0)) AS metering_usd,
        sum(ifNull(rate_usd, 0)) AS rate_usd,
        sum(ifNull(unsplit_usd, 0)) AS unsplit_usd,
        sumIf(least(ifNull(estimated_usd, 0), billed_usd), billed_usd > 0) AS captured_usd
    FROM current_recon_lines
    WHERE day >= {since:Date} AND day < {until:Date}
    GROUP BY day
) AS parts ON parts.day = days.day
LEFT JOIN
(
    SELECT day, max(fetched_at) AS read_at
    FROM billing_days
    WHERE source = 'costs' AND status = 'ok' AND day >= {since:Date} AND day < {until:Date}
    GROUP BY day
) AS read ON read.day = days.day
ORDER BY day DESC
