-- One row per step of a month that is not in the audit log, oldest first.
-- parameters: none
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
WHERE toString(close_id) NOT IN
(
    SELECT JSONExtractString(detail, 'close_id') FROM audit_log WHERE action LIKE 'period.%'
)
ORDER BY written_at
