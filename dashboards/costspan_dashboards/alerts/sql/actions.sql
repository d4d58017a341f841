-- A row: what a person did with one of some alerts, the first first.
-- parameters: alert_ids Array(String)
SELECT alert_id, toString(kind) AS kind, author, comment, at
FROM alert_actions
WHERE alert_id IN {alert_ids:Array(String)}
ORDER BY at, alert_id
