-- One row per day: what its newest run was computed from.
-- parameters: since Date, until Date
SELECT day, toString(inputs_sha256) AS inputs_sha256
FROM current_recon_days
WHERE day >= {since:Date} AND day < {until:Date}
