-- One row per day of a month that has a bill: a day that is not here is unknown, not zero.
-- parameters: since Date, until Date
SELECT day
FROM current_recon_days
WHERE day >= {since:Date} AND day < {until:Date} AND billed_usd IS NOT NULL
ORDER BY day
