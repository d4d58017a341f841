-- One row per quantity that OpenAI's Usage endpoints counted in a month, as it stands.
-- parameters: since Date, until Date
SELECT '' AS name, formatRowNoNewline('JSONEachRow', *) AS line
FROM provider_usage
WHERE
    day >= {since:Date} AND day < {until:Date}
    AND (source, day, fetch_id) IN
    (
        SELECT source, day, revision_fetch_id
        FROM good_readings
        WHERE source != 'costs' AND day >= {since:Date} AND day < {until:Date}
    )
ORDER BY source, day, project, api_key_id, model, batch, service_tier, modality, kind, quantity
SETTINGS
    output_format_json_quote_decimals = 1,
    output_format_json_quote_64bit_integers = 0,
    output_format_json_escape_forward_slashes = 0
