-- One row per reconciled line of a month, named by its day.
-- parameters: since Date, until Date
SELECT toString(day) AS name, formatRowNoNewline('JSONEachRow', *) AS line
FROM current_recon_lines
WHERE day >= {since:Date} AND day < {until:Date}
ORDER BY day, project, api_key_id, line_item
SETTINGS
    output_format_json_quote_decimals = 1,
    output_format_json_quote_64bit_integers = 0,
    output_format_json_escape_forward_slashes = 0
