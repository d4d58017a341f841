-- One row per UTC day before `until` that has rows in a table which is kept by day. A day that was
-- dropped is here again if something came for it since. `settled`: the whole month is final against
-- the bill; NULL: nothing was ever held against a bill.
-- parameters: until Date, table String ('calls' or 'http_attempts')
WITH
    (SELECT count() FROM current_recon_days) AS reconciled_days,
    (
        SELECT groupArray(month)
        FROM (
            SELECT toStartOfMonth(day) AS month
            FROM current_recon_days
            GROUP BY month
            HAVING countIf(day_state = 'FINAL') = toDayOfMonth(toLastDayOfMonth(month))
        )
    ) AS settled_months
SELECT
    YYYYMMDDToDate(toUInt32(partition)) AS day,
    sum(rows) AS calls,
    day IN (SELECT day FROM dropped_days) AS was_dropped,
    if(reconciled_days = 0, NULL, has(settled_months, toStartOfMonth(day))) AS settled
FROM system.parts
WHERE active AND database = currentDatabase() AND table = {table:String}
GROUP BY day
HAVING day < {until:Date}
ORDER BY day
