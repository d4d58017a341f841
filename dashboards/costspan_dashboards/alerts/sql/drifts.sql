-- A row: a day of the bill that was compared, as its last run left it.
-- parameters: since Date, until DateTime('UTC')
SELECT
    toDateTime(recon_runs.day, 'UTC') AS day,
    day_state = 'FINAL' AS final,
    billed_usd,
    estimated_usd,
    verdict != 'REVIEW' AS explained
FROM
(
    SELECT day, day_state, billed_usd, estimated_usd, verdict
    FROM recon_runs
    WHERE day >= {since:Date} AND run_at < {until:DateTime('UTC')}
    ORDER BY day, run_at DESC
    LIMIT 1 BY day
) AS recon_runs
WHERE day_state != 'OPEN' AND billed_usd IS NOT NULL
ORDER BY day
