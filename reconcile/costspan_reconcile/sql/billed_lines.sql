-- One row per day, project, key and line item of the newest revision of each day.
-- parameters: since Date, until Date
SELECT
    day,
    project,
    api_key_id,
    line_item,
    currency,
    organization,
    amount,
    amount_usd,
    quantity,
    quantity_unit,
    vanished,
    revision,
    fetch_id
FROM billed_lines
WHERE
    day >= {since:Date} AND day < {until:Date}
    AND (day, fetch_id) IN
    (
        SELECT day, revision_fetch_id
        FROM good_readings
        WHERE source = 'costs' AND day >= {since:Date} AND day < {until:Date}
    )
ORDER BY day, project, api_key_id, line_item, quantity_unit
