-- One row per UTC day that has calls: how many rows of them there are, those that came again included.
-- parameters: none
SELECT YYYYMMDDToDate(toUInt32(partition)) AS day, sum(rows) AS calls
FROM system.parts
WHERE active AND database = currentDatabase() AND table = 'calls'
GROUP BY day
