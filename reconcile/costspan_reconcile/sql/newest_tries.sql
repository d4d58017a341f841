-- One row: when the bill of what was then today and yesterday was last read with success, when it was
-- last tried (NULL: never), and what became of that; and when that of any day was read.
-- parameters: none
SELECT
    maxOrNullIf(fetched_at, status = 'ok' AND is_new) AS read_at,
    maxOrNullIf(fetched_at, is_new) AS tried_at,
    toString(argMaxIf(status, (fetched_at, status), is_new)) AS last_status,
    argMaxIf(reason, (fetched_at, status), is_new) AS last_reason,
    maxOrNullIf(fetched_at, status = 'ok') AS older_read_at
FROM (SELECT *, day >= toDate(fetched_at) - 1 AS is_new FROM billing_days WHERE source = 'costs')
