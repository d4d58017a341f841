-- One row per line of some days of locked months: its dollars as they were locked and adjusted, and as
-- they are in a newer reading of the bill. None where they are the same.
-- parameters: days Array(Date), old_fetch_ids Array(UUID), new_fetch_ids Array(UUID)
SELECT
    day,
    project,
    api_key_id,
    line_item,
    quantity_unit,
    sum(old) AS old_usd,
    sum(new) AS new_usd
FROM
(
    SELECT day, project, api_key_id, line_item, quantity_unit, amount_usd AS old, toDecimal256(0, 40) AS new
    FROM billed_lines
    WHERE (day, fetch_id) IN arrayZip({days:Array(Date)}, {old_fetch_ids:Array(UUID)})
    UNION ALL
    SELECT day, project, api_key_id, line_item, quantity_unit, amount_usd, toDecimal256(0, 40)
    FROM adjustments
    WHERE day IN {days:Array(Date)}
    UNION ALL
    SELECT day, project, api_key_id, line_item, quantity_unit, toDecimal256(0, 40), amount_usd
    FROM billed_lines
    WHERE (day, fetch_id) IN arrayZip({days:Array(Date)}, {new_fetch_ids:Array(UUID)})
)
GROUP BY day, project, api_key_id, line_item, quantity_unit
HAVING old_usd != new_usd
ORDER BY day, project, api_key_id, line_item, quantity_unit
