-- One row: when the bill of what was then today and yesterday was last read with success, when it was
-- last tried, and what became of that; NULL and '' where it never was.
-- parameters: none
SELECT
    maxOrNullIf(fetched_at, status = 'ok') AS read_at,
    maxOrNull(fetched_at) AS tried_at,
    if(count() = 0, '', toString(argMax(status, (fetched_at, day = toDate(fetched_at), status)))) AS status,
    argMax(reason, (fetched_at, day = toDate(fetched_at), status)) AS reason
FROM billing_days
WHERE source = 'costs' AND day >= toDate(fetched_at) - 1
