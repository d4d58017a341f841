-- A row: one message on one channel and how far it got, the newest first.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT
    max(notifications.at) AS last_at,
    any(channel) AS channel,
    alert_id,
    sequence,
    max(try_number) AS tries,
    argMax(toString(outcome), (try_number, outcome != 'claimed', notifications.at)) AS outcome,
    argMax(detail, (try_number, outcome != 'claimed', notifications.at)) AS detail
FROM notifications
WHERE at >= {since:DateTime('UTC')} AND at < {until:DateTime('UTC')}
GROUP BY message_id, alert_id, sequence
ORDER BY last_at DESC, alert_id, sequence DESC
LIMIT 500
