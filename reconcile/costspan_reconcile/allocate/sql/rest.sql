-- One row per project, key, line item and rule with dollars that no call accounts for: how many went
-- by the rule, and how many to nobody. Most dollars first.
-- parameters: since Date, until Date, most UInt32
SELECT
    rest.project AS project,
    rest.api_key_id AS api_key_id,
    keys.name AS key_name,
    line_item,
    rule,
    shared_usd,
    unattributed_usd
FROM
(
    SELECT
        project,
        api_key_id,
        line_item,
        rule,
        sumIf(amount_usd, kind = 'shared') AS shared_usd,
        sumIf(amount_usd, kind = 'unattributed') AS unattributed_usd
    FROM current_allocations
    WHERE day >= {since:Date} AND day < {until:Date} AND kind != 'direct'
    GROUP BY project, api_key_id, line_item, rule
) AS rest
LEFT JOIN (SELECT project, api_key_id, name FROM api_keys FINAL) AS keys
    ON keys.project = rest.project AND keys.api_key_id = rest.api_key_id
ORDER BY abs(shared_usd + unattributed_usd) DESC, project, api_key_id, line_item, rule
LIMIT {most:UInt32}
