-- One row per UTC day before `until` whose calls still tell who made them.
-- parameters: until Date
SELECT DISTINCT toDate(started_at, 'UTC') AS day
FROM calls
WHERE started_at < {until:Date}
    AND (user != '' OR customer != '' OR response_id != '' OR request_id != '')
ORDER BY day
