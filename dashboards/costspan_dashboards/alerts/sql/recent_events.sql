-- A row: one step of an alert, the newest first.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT at, rule, severity, from_state, to_state, reason, title, tells, alert_id
FROM alert_events FINAL
WHERE at >= {since:DateTime('UTC')} AND at < {until:DateTime('UTC')}
ORDER BY at DESC, alert_id, sequence DESC
LIMIT 500
