-- One row per month that a rollup has rows of and that ended before `until`.
-- parameters: until Date
SELECT DISTINCT table, partition
FROM system.parts
WHERE active AND database = currentDatabase() AND table IN ('cost_hourly', 'latency_5m', 'latency_daily', 'signals_5m')
    AND addMonths(YYYYMMDDToDate(toUInt32(partition) * 100 + 1), 1) <= {until:Date}
ORDER BY table, partition
