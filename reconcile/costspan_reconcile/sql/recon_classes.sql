-- One row per day and class: the dollars of billed less estimated that are in it.
-- parameters: since Date, until Date
SELECT day, cause, sum(amount_usd) AS amount_usd
FROM current_recon_components
WHERE day >= {since:Date} AND day < {until:Date}
GROUP BY day, cause
ORDER BY day, cause
