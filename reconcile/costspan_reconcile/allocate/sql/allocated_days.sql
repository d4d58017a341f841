-- One row per closed day with a bill, newest first. `allocated_usd` is NULL where the newest run of
-- the day is not shared out yet.
-- parameters: since Date, until Date
SELECT
    days.day AS day,
    assumeNotNull(days.billed_usd) AS billed_usd,
    if(held.run_id = days.run_id, toNullable(held.billed_usd), NULL) AS allocated_usd,
    held.direct_usd AS direct_usd,
    held.shared_usd AS shared_usd,
    held.unattributed_usd AS unattributed_usd,
    held.frozen AS frozen
FROM
(
    SELECT day, run_id, billed_usd
    FROM current_recon_days
    WHERE day >= {since:Date} AND day < {until:Date} AND day_state != 'OPEN' AND billed_usd IS NOT NULL
) AS days
LEFT JOIN
(
    SELECT day, run_id, billed_usd, direct_usd, shared_usd, unattributed_usd, frozen
    FROM current_allocation_runs
    WHERE day >= {since:Date} AND day < {until:Date}
) AS held ON held.day = days.day
ORDER BY day DESC
