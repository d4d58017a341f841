-- One row per key that is billed and that no span carries, on closed days, most dollars first.
-- parameters: since Date, until Date
SELECT
    parts.project AS project,
    parts.api_key_id AS api_key_id,
    keys.name AS key_name,
    keys.project_name AS project_name,
    amount_usd,
    first_day,
    last_day
FROM
(
    SELECT
        project,
        api_key_id,
        sum(amount_usd) AS amount_usd,
        min(day) AS first_day,
        max(day) AS last_day
    FROM current_recon_components
    WHERE cause = 'UNINSTRUMENTED_KEY' AND day >= {since:Date} AND day < {until:Date}
    GROUP BY project, api_key_id
) AS parts
LEFT JOIN (SELECT project, api_key_id, name, project_name FROM api_keys FINAL) AS keys
    ON keys.project = parts.project AND keys.api_key_id = parts.api_key_id
ORDER BY amount_usd DESC, project, api_key_id
