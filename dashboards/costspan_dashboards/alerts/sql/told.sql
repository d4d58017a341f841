-- A row: how many messages of a channel ended so, in a stretch of time.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT channel, outcome, count() AS messages
FROM
(
    SELECT
        any(channel) AS channel,
        argMax(toString(outcome), (try_number, outcome != 'claimed', at)) AS outcome
    FROM notifications
    WHERE at >= {since:DateTime('UTC')} AND at < {until:DateTime('UTC')}
    GROUP BY message_id
)
GROUP BY channel, outcome
ORDER BY channel, outcome
