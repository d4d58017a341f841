-- One row per line of some runs, each on a day, as it was matched.
-- parameters: run_ids Array(UUID), days Array(Date)
SELECT
    day,
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
WHERE day IN {days:Array(Date)}
    AND (day, run_id) IN arrayZip({days:Array(Date)}, {run_ids:Array(UUID)})
ORDER BY day, project, api_key_id, line_item
