-- One row per correction that is booked in a month, with who bears the line as it was locked: (team,
-- feature, customer, kind, rule, dollars), no rows where it was not on the bill then.
-- parameters: month Date
SELECT
    booked.original_month AS original_month,
    booked.day AS day,
    booked.project AS project,
    booked.api_key_id AS api_key_id,
    booked.line_item AS line_item,
    booked.quantity_unit AS quantity_unit,
    booked.amount_usd AS amount_usd,
    shared.shares AS shares
FROM (SELECT * FROM adjustments WHERE month = {month:Date} AND amount_usd != 0) AS booked
LEFT JOIN
(
    SELECT
        day,
        project,
        api_key_id,
        line_item,
        arraySort(groupArray((team, feature, customer, kind, rule, share_usd))) AS shares
    FROM
    (
        SELECT
            day,
            project,
            api_key_id,
            line_item,
            team,
            feature,
            customer,
            toString(share.kind) AS kind,
            rule,
            sum(share.amount_usd) AS share_usd
        FROM allocations AS share
        WHERE (day, allocation_id) IN (SELECT day, allocation_id FROM locked_days)
            AND day IN (SELECT day FROM adjustments WHERE month = {month:Date})
        GROUP BY day, project, api_key_id, line_item, team, feature, customer, kind, rule
        HAVING share_usd != 0
    )
    GROUP BY day, project, api_key_id, line_item
) AS shared
    ON shared.day = booked.day AND shared.project = booked.project
    AND shared.api_key_id = booked.api_key_id AND shared.line_item = booked.line_item
ORDER BY booked.booked_at, day, project, api_key_id, line_item, quantity_unit
