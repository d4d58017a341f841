-- One row per day of a month that is in the books.
-- parameters: since Date, until Date
SELECT day
FROM locked_days
WHERE day >= {since:Date} AND day < {until:Date}
ORDER BY day
