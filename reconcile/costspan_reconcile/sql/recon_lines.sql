-- One row per day, project, key and line item, open days too: the largest difference first.
-- parameters: since Date, until Date, most UInt32
SELECT
    day,
    lines.project AS project,
    lines.api_key_id AS api_key_id,
    keys.name AS key_name,
    line_item,
    match_level,
    billed_usd,
    billed_quantity,
    quantity_unit,
    usage_quantity,
    estimated_quantity,
    unit_price_usd,
    estimated_usd,
    calls,
    unpriced_calls,
    coverage_usd,
    metering_usd,
    rate_usd,
    unsplit_usd,
    cause,
    verdict,
    day_state,
    explanation
FROM current_recon_lines AS lines
LEFT JOIN (SELECT project, api_key_id, name FROM api_keys FINAL) AS keys
    ON keys.project = lines.project AND keys.api_key_id = lines.api_key_id
WHERE day >= {since:Date} AND day < {until:Date}
ORDER BY abs(billed_usd - ifNull(estimated_usd, 0)) DESC, day, project, api_key_id, line_item
LIMIT {most:UInt32}
