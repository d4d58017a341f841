-- A row: one message on one channel and how far it got, the newest first.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT
    max(said.at) AS last_at,
    any(said.channel) AS channel,
    said.alert_id AS alert_id,
    said.sequence AS sequence,
    max(said.try_number) AS tries,
    argMax(toString(said.outcome), (said.try_number, said.outcome != 'claimed', said.at)) AS outcome,
    argMax(said.detail, (said.try_number, said.outcome != 'claimed', said.at)) AS detail
FROM notifications AS said
WHERE said.at >= {since:DateTime('UTC')} AND said.at < {until:DateTime('UTC')}
GROUP BY said.message_id, said.alert_id, said.sequence
ORDER BY last_at DESC, alert_id, sequence DESC
LIMIT 500
