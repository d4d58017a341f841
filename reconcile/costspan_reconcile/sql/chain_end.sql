-- The last record of the chain of billing_fetches; no row where there is none.
-- parameters: none
SELECT sequence, toString(record_sha256) AS record_sha256
FROM billing_fetches
ORDER BY sequence DESC
LIMIT 1
