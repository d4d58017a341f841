-- One row per line item over the closed days of the range, most billed first.
-- parameters: since Date, until Date
SELECT
    line_item,
    sum(lines.billed_usd) AS billed_usd,
    sum(ifNull(lines.estimated_usd, 0)) AS estimated_usd,
    sum(ifNull(lines.coverage_usd, 0)) AS coverage_usd,
    sum(ifNull(lines.metering_usd, 0)) AS metering_usd,
    sum(ifNull(lines.rate_usd, 0)) AS rate_usd,
    sum(ifNull(lines.unsplit_usd, 0)) AS unsplit_usd,
    arraySort(groupUniqArray(cause)) AS causes
FROM current_recon_lines AS lines
WHERE day >= {since:Date} AND day < {until:Date} AND day_state != 'OPEN'
GROUP BY line_item
ORDER BY billed_usd DESC, line_item
