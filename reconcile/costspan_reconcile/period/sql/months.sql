-- One row per month that has a reconciled day or was ever moved, newest first: its state.
-- parameters: none
SELECT
    month,
    if(moved.state = '', 'OPEN', moved.state) AS state,
    if(moved.state = '', NULL, toNullable(moved.at)) AS at,
    moved.actor AS actor,
    moved.close_id AS close_id,
    moved.reason AS reason,
    if(moved.state = '', NULL, toNullable(moved.billed_usd)) AS billed_usd,
    moved.bill_sha256 AS bill_sha256,
    moved.invoice_id AS invoice_id,
    moved.invoice_usd AS invoice_usd,
    moved.invoice_file AS invoice_file,
    moved.invoice_sha256 AS invoice_sha256,
    moved.lock_sha256 AS lock_sha256,
    days.final_days AS final_days,
    days.ledger_usd AS ledger_usd
FROM
(
    SELECT
        toStartOfMonth(day) AS month,
        countIf(day_state = 'FINAL') AS final_days,
        sum(billed_usd) AS ledger_usd
    FROM current_recon_days
    GROUP BY month
) AS days
FULL JOIN current_periods AS moved USING (month)
ORDER BY month DESC
