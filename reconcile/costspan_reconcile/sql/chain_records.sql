-- One row per record of billing_fetches with `after` < sequence <= `until`, in order, with the hash
-- of its body as it is kept now.
-- parameters: after UInt64, until UInt64
SELECT
    sequence,
    fetch_id,
    endpoint,
    parameters,
    page,
    request_id,
    fetched_at,
    lower(hex(SHA256(body))) AS body_is,
    toString(body_sha256) AS body_sha256,
    previous_sha256,
    toString(record_sha256) AS record_sha256
FROM billing_fetches
WHERE sequence > {after:UInt64} AND sequence <= {until:UInt64}
ORDER BY sequence, record_sha256
