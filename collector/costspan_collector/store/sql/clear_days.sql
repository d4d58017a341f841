-- One row per UTC day before `until` of which calls, or shares of a bill, still tell who made them.
-- parameters: until Date
SELECT DISTINCT day
FROM
(
    SELECT toDate(started_at, 'UTC') AS day
    FROM calls
    WHERE started_at < {until:Date}
        AND (user != '' OR customer != '' OR response_id != '' OR request_id != '')
    UNION ALL
    SELECT day
    FROM allocations
    WHERE day < {until:Date} AND (user != '' OR customer != '')
)
ORDER BY day
