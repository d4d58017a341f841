-- A row: one key that the reconciliation says no span ever came from, and what it is billed.
-- parameters: none
SELECT
    any(k.name) AS name,
    c.api_key_id AS api_key_id,
    toString(sum(c.amount_usd)) AS usd
FROM current_recon_components AS c
LEFT JOIN (SELECT api_key_id, name FROM api_keys FINAL) AS k ON k.api_key_id = c.api_key_id
WHERE c.class = 'UNINSTRUMENTED_KEY'
GROUP BY api_key_id
ORDER BY sum(c.amount_usd) DESC
