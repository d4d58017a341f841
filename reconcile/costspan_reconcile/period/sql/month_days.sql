-- One row per day that was reconciled: the run that stands for it, and the newest good reading of
-- its bill, which may be newer than the run; empty where there is none. `allocation_id` is of the
-- allocation of this very run, zeros where there is none.
-- parameters: since Date, until Date
SELECT
    runs.day AS day,
    runs.run_id AS run_id,
    toString(runs.day_state) AS day_state,
    runs.verdict AS verdict,
    runs.reason AS reason,
    runs.costs_revision AS costs_revision,
    runs.billed_usd AS billed_usd,
    runs.estimated_usd AS estimated_usd,
    read.revision AS revision,
    read.revision_fetch_id AS costs_fetch_id,
    read.content_sha256 AS content_sha256,
    allocated.allocation_id AS allocation_id
FROM
(
    SELECT day, run_id, day_state, verdict, reason, costs_revision, billed_usd, estimated_usd
    FROM current_recon_days
    WHERE day >= {since:Date} AND day < {until:Date}
) AS runs
LEFT JOIN
(
    SELECT day, revision, revision_fetch_id, content_sha256
    FROM good_readings
    WHERE source = 'costs' AND day >= {since:Date} AND day < {until:Date}
) AS read ON read.day = runs.day
LEFT JOIN
(
    SELECT day, run_id, allocation_id
    FROM current_allocation_runs
    WHERE day >= {since:Date} AND day < {until:Date}
) AS allocated ON allocated.day = runs.day AND allocated.run_id = runs.run_id
ORDER BY day
