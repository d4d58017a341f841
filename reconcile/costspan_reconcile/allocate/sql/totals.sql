-- One row per allocation that has lines: its dollars by what became of them, and how many of its lines
-- have shares that are not what they were billed.
-- parameters: allocation_ids Array(UUID)
SELECT
    allocation_id,
    sum(line_usd) AS billed_usd,
    sum(line_direct_usd) AS direct_usd,
    sum(line_shared_usd) AS shared_usd,
    sum(line_unattributed_usd) AS unattributed_usd,
    countIf(line_usd != shares_usd) AS untied_lines
FROM
(
    SELECT
        allocation_id,
        sum(billed_usd) AS line_usd,
        sumIf(amount_usd, kind = 'direct') AS line_direct_usd,
        sumIf(amount_usd, kind = 'shared') AS line_shared_usd,
        sumIf(amount_usd, kind = 'unattributed') AS line_unattributed_usd,
        sum(amount_usd) AS shares_usd
    FROM
    (
        SELECT
            allocation_id,
            project,
            api_key_id,
            line_item,
            '' AS kind,
            billed_usd,
            toDecimal256(0, 40) AS amount_usd
        FROM allocation_lines
        WHERE allocation_id IN {allocation_ids:Array(UUID)}
        UNION ALL
        SELECT
            allocation_id,
            project,
            api_key_id,
            line_item,
            toString(kind) AS kind,
            toDecimal256(0, 40) AS billed_usd,
            amount_usd
        FROM allocations
        WHERE allocation_id IN {allocation_ids:Array(UUID)}
    )
    GROUP BY allocation_id, project, api_key_id, line_item
)
GROUP BY allocation_id
