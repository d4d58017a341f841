-- One row per source, day and try to read it, oldest first.
-- parameters: since Date, until Date
SELECT
    source,
    day,
    fetch_id,
    fetched_at,
    status,
    reason,
    grouped_by,
    content_sha256,
    revision,
    revision_fetch_id,
    billed_usd,
    control_usd
FROM billing_days
WHERE day >= {since:Date} AND day < {until:Date}
ORDER BY source, day, fetched_at, revision
