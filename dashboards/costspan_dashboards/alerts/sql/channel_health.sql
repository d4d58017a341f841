-- A row: how a channel has gone since it delivered at last; none of a channel that works.
-- parameters: since DateTime('UTC'), channels Array(String)
WITH worked AS
(
    SELECT channel, max(at) AS delivered_at
    FROM notifications
    WHERE at >= {since:DateTime('UTC')} AND outcome = 'delivered'
    GROUP BY channel
)
SELECT
    said.channel AS channel,
    count() AS failures,
    min(said.at) AS first_at,
    max(said.at) AS last_at,
    argMax(said.detail, said.at) AS detail
FROM notifications AS said
LEFT JOIN worked ON worked.channel = said.channel
WHERE said.at >= {since:DateTime('UTC')} AND said.outcome = 'failed' AND said.at > worked.delivered_at
    AND said.channel IN {channels:Array(String)}
GROUP BY said.channel
ORDER BY channel
