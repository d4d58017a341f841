-- One row per line item of a month that is not understood.
-- parameters: since Date, until Date
SELECT
    '' AS name,
    formatRowNoNewline('JSONEachRow', line_item, days, amount_usd) AS line
FROM
(
    SELECT line_item, uniqExact(day) AS days, sum(amount_usd) AS amount_usd
    FROM current_recon_components
    WHERE cause = 'UNCLASSIFIED' AND day >= {since:Date} AND day < {until:Date}
    GROUP BY line_item
)
ORDER BY line_item
SETTINGS
    output_format_json_quote_decimals = 1,
    output_format_json_quote_64bit_integers = 0,
    output_format_json_escape_forward_slashes = 0
