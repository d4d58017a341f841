-- One row per day whose calls were dropped.
-- parameters: since Date, until Date
SELECT day
FROM dropped_days FINAL
WHERE day >= {since:Date} AND day < {until:Date}
ORDER BY day
