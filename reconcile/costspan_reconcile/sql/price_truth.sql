-- One row per UTC day, line item and price of a unit that was paid for it: the dollars and the
-- quantity that were billed at it. The sums are exact; the quotient only tells prices apart.
-- parameters: since Date, until Date
SELECT
    day,
    line_item,
    quantity_unit,
    sum(line.amount_usd) AS amount_usd,
    sum(assumeNotNull(line.quantity)) AS quantity,
    arraySort(groupUniqArray(project)) AS projects
FROM billed_lines AS line
WHERE
    day >= {since:Date} AND day < {until:Date}
    AND line.quantity > 0
    AND line.amount_usd >= 0
    AND (day, fetch_id) IN
    (
        SELECT day, revision_fetch_id
        FROM good_readings
        WHERE source = 'costs' AND day >= {since:Date} AND day < {until:Date}
    )
GROUP BY
    day,
    line_item,
    quantity_unit,
    round(log2(toFloat64(line.amount_usd) / toFloat64(assumeNotNull(line.quantity))), 7)
ORDER BY day, line_item, quantity_unit, amount_usd
