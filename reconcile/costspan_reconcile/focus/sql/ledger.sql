-- One row: what the ledger says a month comes to, summed where the rows of an export are not: the
-- bridge of the month if it has one, else its bill and the corrections that are booked in it.
-- parameters: since Date, until Date, close_id UUID
WITH
    (
        SELECT sum(ifNull(billed_usd, 0)) FROM current_recon_days WHERE day >= {since:Date} AND day < {until:Date}
    ) AS bill_usd,
    (SELECT sum(amount_usd) FROM adjustments WHERE month = {since:Date}) AS corrections_usd,
    (
        SELECT sumIf(amount_usd, kind NOT IN ('opening', 'purchase', 'expired', 'closing'))
        FROM bridge_lines
        WHERE close_id = {close_id:UUID}
    ) AS bridge_usd,
    (SELECT count() FROM bridge_lines WHERE close_id = {close_id:UUID}) AS bridge_lines
SELECT if(bridge_lines > 0, assumeNotNull(bridge_usd), assumeNotNull(bill_usd) + assumeNotNull(corrections_usd)) AS total_usd
