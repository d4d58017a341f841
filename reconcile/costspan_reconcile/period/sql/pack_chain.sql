-- One row per record of the chain of raw pages, from the first to the last that a month stands on.
-- parameters: since Date, until Date
WITH
    standing AS
    (
        SELECT source, revision_fetch_id
        FROM good_readings
        WHERE day >= {since:Date} AND day < {until:Date}
    ),
    used AS (SELECT sequence FROM billing_fetches WHERE (endpoint, fetch_id) IN standing)
SELECT
    '' AS name,
    formatRowNoNewline(
        'JSONEachRow',
        sequence,
        fetch_id,
        endpoint,
        parameters,
        page,
        request_id,
        toUnixTimestamp64Micro(fetched_at) AS fetched_at_us,
        toString(body_sha256) AS body_sha256,
        previous_sha256,
        toString(record_sha256) AS record_sha256
    ) AS line
FROM billing_fetches
WHERE sequence >= (SELECT min(sequence) FROM used) AND sequence <= (SELECT max(sequence) FROM used)
ORDER BY sequence, record_sha256
SETTINGS
    output_format_json_quote_decimals = 1,
    output_format_json_quote_64bit_integers = 0,
    output_format_json_escape_forward_slashes = 0
