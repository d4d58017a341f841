-- One row per class of a reconciled line of a day.
-- parameters: day Date
SELECT project, api_key_id, line_item, component, cause, amount_usd
FROM current_recon_components
WHERE day = {day:Date}
ORDER BY project, api_key_id, line_item, component, cause
