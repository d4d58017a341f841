-- One row per page of Costs that the bill of a day was read from, as its standing run has it.
-- parameters: day Date
SELECT
    fetch_id,
    page,
    parameters,
    request_id,
    fetched_at,
    body,
    (
        SELECT any(grouped_by)
        FROM billing_days
        WHERE source = 'costs' AND day = {day:Date} AND status = 'ok'
            AND fetch_id IN (SELECT costs_fetch_id FROM current_recon_days WHERE day = {day:Date})
    ) AS grouped_by
FROM billing_fetches
WHERE endpoint = 'costs'
    AND fetch_id IN
    (
        SELECT revision_fetch_id
        FROM billing_days
        WHERE source = 'costs' AND day = {day:Date} AND status = 'ok'
            AND fetch_id IN (SELECT costs_fetch_id FROM current_recon_days WHERE day = {day:Date})
    )
ORDER BY page, parameters
