-- A row: one of `users` who called in a stretch of time.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), users Array(String)
SELECT DISTINCT user
FROM calls
WHERE started_at >= {since:DateTime('UTC')} AND started_at < {until:DateTime('UTC')}
    AND user IN {users:Array(String)}
