-- One row per line of the bridge that counts with one step of a month.
-- parameters: close_id UUID
SELECT
    close_id,
    month,
    position,
    kind,
    charge_category,
    charge_class,
    description,
    amount_usd,
    evidence_sha256
FROM bridge_lines
WHERE close_id = {close_id:UUID}
ORDER BY position
