-- One row per step that a month took, oldest first.
-- parameters: month Date
SELECT
    month,
    state,
    at,
    actor,
    close_id,
    reason,
    billed_usd,
    bill_sha256,
    invoice_id,
    invoice_usd,
    invoice_file,
    invoice_sha256,
    lock_sha256
FROM periods
WHERE month = {month:Date}
ORDER BY written_at
