-- One row per reconciled day with a bill whose dollars are to be shared out: its newest run was not
-- yet, or it was by other rules and its weights are not frozen. `before` is the allocation that
-- holds so far, zeros where there is none.
-- parameters: since Date, until Date, policy_sha256 String
SELECT
    days.day AS day,
    days.run_id AS run_id,
    days.day_state AS day_state,
    assumeNotNull(days.billed_usd) AS billed_usd,
    days.calls AS calls,
    held.allocation_id AS before,
    held.frozen AS frozen
FROM (SELECT * FROM current_recon_days WHERE day >= {since:Date} AND day < {until:Date}) AS days
LEFT JOIN
(
    SELECT day, run_id, allocation_id, frozen, toString(policy_sha256) AS policy
    FROM current_allocation_runs
    WHERE day >= {since:Date} AND day < {until:Date}
) AS held ON held.day = days.day
WHERE days.day_state != 'OPEN'
    AND days.billed_usd IS NOT NULL
    AND (held.run_id != days.run_id OR (NOT held.frozen AND held.policy != {policy_sha256:String}))
ORDER BY day
