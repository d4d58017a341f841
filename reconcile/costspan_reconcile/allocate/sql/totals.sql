-- One row: the dollars of an allocation of a day by what became of them, and how many lines there
-- are whose shares are not what they were billed.
-- parameters: allocation_id UUID, day Date
SELECT
    sum(line.billed_usd) AS billed_usd,
    sum(shares.direct_usd) AS direct_usd,
    sum(shares.shared_usd) AS shared_usd,
    sum(shares.unattributed_usd) AS unattributed_usd,
    countIf(line.billed_usd != shares.shares_usd) AS untied_lines
FROM
(
    SELECT project, api_key_id, line_item, billed_usd
    FROM allocation_lines
    WHERE allocation_id = {allocation_id:UUID} AND day = {day:Date}
) AS line
FULL JOIN
(
    SELECT
        project,
        api_key_id,
        line_item,
        sumIf(amount_usd, kind = 'direct') AS direct_usd,
        sumIf(amount_usd, kind = 'shared') AS shared_usd,
        sumIf(amount_usd, kind = 'unattributed') AS unattributed_usd,
        sum(amount_usd) AS shares_usd
    FROM allocations
    WHERE allocation_id = {allocation_id:UUID} AND day = {day:Date}
    GROUP BY project, api_key_id, line_item
) AS shares
    ON shares.project = line.project AND shares.api_key_id = line.api_key_id
    AND shares.line_item = line.line_item
