-- A row: since when the bill has not been read, and why, if the last try failed.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT
    minIf(fetched_at, fetched_at > last_ok_at) AS failing_since,
    argMax(reason, fetched_at) AS reason
FROM
(
    SELECT fetched_at, status, reason, maxIf(fetched_at, status = 'ok') OVER () AS last_ok_at
    FROM billing_days
    WHERE source = 'costs' AND fetched_at >= {since:DateTime('UTC')} AND fetched_at < {until:DateTime('UTC')}
)
HAVING count() > 0 AND argMax(status, fetched_at) != 'ok'
