-- One row per line of the bill of a day that stands, with who bears it: (team, feature, customer,
-- kind, rule, dollars), no rows where the dollars of this run are not shared out. A line without
-- dollars and without a quantity is only ours, not on the bill.
-- parameters: day Date
SELECT
    lines.day AS day,
    lines.project AS project,
    projects.project_name AS project_name,
    lines.api_key_id AS api_key_id,
    keys.name AS key_name,
    lines.line_item AS line_item,
    lines.quantity_unit AS quantity_unit,
    lines.billed_usd AS billed_usd,
    lines.billed_quantity AS billed_quantity,
    lines.estimated_usd AS estimated_usd,
    lines.cause AS cause,
    lines.verdict AS verdict,
    toString(lines.day_state) AS day_state,
    shared.shares AS shares
FROM (SELECT * FROM current_recon_lines WHERE day = {day:Date}) AS lines
LEFT JOIN (SELECT project, api_key_id, name FROM api_keys FINAL) AS keys
    ON keys.project = lines.project AND keys.api_key_id = lines.api_key_id
LEFT JOIN
(
    SELECT project, argMax(project_name, seen_at) AS project_name FROM api_keys FINAL GROUP BY project
) AS projects ON projects.project = lines.project
LEFT JOIN
(
    SELECT
        project,
        api_key_id,
        line_item,
        arraySort(groupArray((team, feature, customer, kind, rule, share_usd))) AS shares
    FROM
    (
        SELECT
            project,
            api_key_id,
            line_item,
            team,
            feature,
            customer,
            toString(share.kind) AS kind,
            rule,
            sum(share.amount_usd) AS share_usd
        FROM current_allocations AS share
        WHERE day = {day:Date} AND run_id IN (SELECT run_id FROM current_recon_days WHERE day = {day:Date})
        GROUP BY project, api_key_id, line_item, team, feature, customer, kind, rule
        HAVING share_usd != 0
    )
    GROUP BY project, api_key_id, line_item
) AS shared
    ON shared.project = lines.project AND shared.api_key_id = lines.api_key_id
    AND shared.line_item = lines.line_item
WHERE lines.billed_usd != 0 OR ifNull(lines.billed_quantity, 0) > 0
ORDER BY project, api_key_id, line_item, quantity_unit
