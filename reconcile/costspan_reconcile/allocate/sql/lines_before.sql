-- One row per line of an allocation.
-- parameters: allocation_id UUID, day Date
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
WHERE allocation_id = {allocation_id:UUID} AND day = {day:Date}
ORDER BY project, api_key_id, line_item
