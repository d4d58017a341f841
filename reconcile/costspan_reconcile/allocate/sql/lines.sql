-- One row per line of a run on a day, as it was matched.
-- parameters: run_id UUID, day Date
SELECT
    project,
    api_key_id,
    line_item,
    match_level,
    billed_usd,
    billed_quantity,
    quantity_unit,
    usage_quantity,
    estimated_quantity,
    cause
FROM recon_lines
WHERE day = {day:Date} AND run_id = {run_id:UUID}
ORDER BY project, api_key_id, line_item
