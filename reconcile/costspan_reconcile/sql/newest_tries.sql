-- One row: when the bill of what was then today and yesterday was last read with success, when it was
-- last tried (NULL: never), and what became of that.
-- parameters: none
SELECT
    maxOrNullIf(fetched_at, status = 'ok') AS read_at,
    maxOrNull(fetched_at) AS tried_at,
    toString(argMax(status, (fetched_at, status))) AS last_status,
    argMax(reason, (fetched_at, status)) AS last_reason
FROM billing_days
WHERE source = 'costs' AND day >= toDate(fetched_at) - 1
