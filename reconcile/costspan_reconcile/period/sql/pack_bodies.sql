-- One row per raw page that a month stands on, named by its record in the chain.
-- parameters: since Date, until Date
SELECT
    concat(leftPad(toString(sequence), 10, '0'), '-', left(toString(record_sha256), 12)) AS name,
    body AS line
FROM billing_fetches
WHERE (endpoint, fetch_id) IN
(
    SELECT source, revision_fetch_id
    FROM good_readings
    WHERE day >= {since:Date} AND day < {until:Date}
)
ORDER BY name
