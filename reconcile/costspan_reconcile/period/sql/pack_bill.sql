-- One row per line of the bill that a month stands on.
-- parameters: since Date, until Date
SELECT '' AS name, formatRowNoNewline('JSONEachRow', *) AS line
FROM billed_lines
WHERE
    day >= {since:Date} AND day < {until:Date}
    AND (day, fetch_id) IN
    (
        SELECT day, revision_fetch_id
        FROM good_readings
        WHERE source = 'costs' AND day >= {since:Date} AND day < {until:Date}
    )
ORDER BY day, project, api_key_id, line_item, quantity_unit
SETTINGS
    output_format_json_quote_decimals = 1,
    output_format_json_quote_64bit_integers = 0,
    output_format_json_escape_forward_slashes = 0
