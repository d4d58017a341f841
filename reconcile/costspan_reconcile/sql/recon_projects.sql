-- One row per project over the closed days of the range, most billed first.
-- parameters: since Date, until Date
SELECT
    project,
    names.name AS name,
    sum(lines.billed_usd) AS billed_usd,
    sum(ifNull(lines.estimated_usd, 0)) AS estimated_usd,
    sum(ifNull(lines.coverage_usd, 0)) AS coverage_usd,
    sum(ifNull(lines.metering_usd, 0)) AS metering_usd,
    sum(ifNull(lines.rate_usd, 0)) AS rate_usd,
    sum(ifNull(lines.unsplit_usd, 0)) AS unsplit_usd,
    sumIf(least(ifNull(lines.estimated_usd, 0), lines.billed_usd), lines.billed_usd > 0) AS captured_usd
FROM current_recon_lines AS lines
LEFT JOIN
(
    SELECT project, any(project_name) AS name
    FROM api_keys FINAL
    GROUP BY project
) AS names ON names.project = lines.project
WHERE day >= {since:Date} AND day < {until:Date} AND day_state != 'OPEN'
GROUP BY project, name
ORDER BY billed_usd DESC, project
