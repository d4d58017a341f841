-- One row per reading that was used and of which no page is kept.
-- parameters: none
SELECT DISTINCT fetch_id, fetched_at
FROM billing_days
WHERE status = 'ok' AND fetch_id NOT IN (SELECT fetch_id FROM billing_fetches)
ORDER BY fetched_at, fetch_id
