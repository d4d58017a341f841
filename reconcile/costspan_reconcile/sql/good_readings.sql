-- One row per source and day that was ever read with success: the newest such reading.
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
FROM good_readings
WHERE day >= {since:Date} AND day < {until:Date}
