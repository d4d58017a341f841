-- One row per try to read the bill or the usage of a day of a month.
-- parameters: since Date, until Date
SELECT '' AS name, formatRowNoNewline('JSONEachRow', *) AS line
FROM billing_days
WHERE day >= {since:Date} AND day < {until:Date}
ORDER BY source, day, fetched_at, revision
SETTINGS
    output_format_json_quote_decimals = 1,
    output_format_json_quote_64bit_integers = 0,
    output_format_json_escape_forward_slashes = 0
