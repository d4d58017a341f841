-- A row: when a channel delivered at last.
-- parameters: since DateTime('UTC')
SELECT channel, max(at) AS delivered_at
FROM notifications
WHERE at >= {since:DateTime('UTC')} AND outcome = 'delivered'
GROUP BY channel
