-- One row per line of some allocations.
-- parameters: allocation_ids Array(UUID)
SELECT
    allocation_id,
    day,
    project,
    api_key_id,
    line_item,
    billed_usd,
    billed_quantity,
    call_quantity,
    rule,
    policy,
    teams,
    shares,
    weights_of
FROM allocation_lines
WHERE allocation_id IN {allocation_ids:Array(UUID)}
ORDER BY day, project, api_key_id, line_item
