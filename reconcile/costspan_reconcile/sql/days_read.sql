-- One row per day whose bill was ever asked for. `answered_at`: the last answer, usable or not;
-- `settled`: read more than 72 hours after the day ended, and no different for 24 hours.
-- parameters: since Date, until Date
WITH
    arraySort(groupArrayIf((fetched_at, content_sha256), status = 'ok')) AS good,
    arrayLastIndex(reading -> reading.2 != good[-1].2, good) AS different
SELECT
    day,
    max(fetched_at) AS tried_at,
    maxOrNullIf(fetched_at, content_sha256 != '') AS answered_at,
    notEmpty(good)
        AND good[-1].1 >= toDateTime(day, 'UTC') + INTERVAL 4 DAY
        AND good[-1].1 >= good[different + 1].1 + INTERVAL 1 DAY AS settled
FROM billing_days
WHERE source = 'costs' AND day >= {since:Date} AND day < {until:Date}
GROUP BY day
ORDER BY day
