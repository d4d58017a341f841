-- One row per correction that is booked in a month.
-- parameters: month Date
SELECT
    month,
    booked_at,
    original_month,
    day,
    project,
    api_key_id,
    line_item,
    quantity_unit,
    locked_run_id,
    old_usd,
    new_usd,
    amount_usd,
    old_content_sha256,
    new_content_sha256,
    costs_fetch_id
FROM adjustments
WHERE month = {month:Date}
ORDER BY booked_at, day, project, api_key_id, line_item, quantity_unit
