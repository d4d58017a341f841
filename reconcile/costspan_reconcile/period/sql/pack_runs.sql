-- One row per day of a month: the run that stands for it.
-- parameters: since Date, until Date
SELECT '' AS name, formatRowNoNewline('JSONEachRow', *) AS line
FROM current_recon_days
WHERE day >= {since:Date} AND day < {until:Date}
ORDER BY day
SETTINGS
    output_format_json_quote_decimals = 1,
    output_format_json_quote_64bit_integers = 0,
    output_format_json_escape_forward_slashes = 0
