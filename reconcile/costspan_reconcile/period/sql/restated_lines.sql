-- One row per line of a locked month whose bill is no longer what was locked and adjusted since.
-- parameters: none
WITH
    accounted AS
    (
        SELECT day, argMax(new_content_sha256, booked_at) AS content_sha256
        FROM adjustments
        GROUP BY day
    ),
    newest AS
    (
        SELECT day, revision_fetch_id, content_sha256
        FROM billing_days
        WHERE source = 'costs' AND status = 'ok' AND day IN (SELECT day FROM locked_days)
        ORDER BY fetched_at DESC, revision DESC
        LIMIT 1 BY day
    ),
    restated AS
    (
        SELECT
            locked.month AS month,
            locked.day AS day,
            locked.run_id AS run_id,
            locked.costs_fetch_id AS old_fetch_id,
            newest.revision_fetch_id AS new_fetch_id,
            if(accounted.content_sha256 = '', locked.content_sha256, accounted.content_sha256) AS old_content_sha256,
            newest.content_sha256 AS new_content_sha256
        FROM locked_days AS locked
        INNER JOIN newest ON newest.day = locked.day
        LEFT JOIN accounted ON accounted.day = locked.day
        WHERE old_content_sha256 != new_content_sha256
    )
SELECT
    restated.month AS original_month,
    amounts.day AS day,
    project,
    api_key_id,
    line_item,
    quantity_unit,
    restated.run_id AS locked_run_id,
    sum(old_usd) AS old_usd,
    sum(new_usd) AS new_usd,
    restated.old_content_sha256 AS old_content_sha256,
    restated.new_content_sha256 AS new_content_sha256,
    restated.new_fetch_id AS costs_fetch_id
FROM
(
    SELECT
        day,
        project,
        api_key_id,
        line_item,
        quantity_unit,
        amount_usd AS old_usd,
        toDecimal256(0, 40) AS new_usd
    FROM billed_lines
    WHERE (day, fetch_id) IN (SELECT day, old_fetch_id FROM restated)
    UNION ALL
    SELECT day, project, api_key_id, line_item, quantity_unit, amount_usd, toDecimal256(0, 40)
    FROM adjustments
    WHERE day IN (SELECT day FROM restated)
    UNION ALL
    SELECT day, project, api_key_id, line_item, quantity_unit, toDecimal256(0, 40), amount_usd
    FROM billed_lines
    WHERE (day, fetch_id) IN (SELECT day, new_fetch_id FROM restated)
) AS amounts
INNER JOIN restated ON restated.day = amounts.day
GROUP BY
    original_month,
    day,
    project,
    api_key_id,
    line_item,
    quantity_unit,
    locked_run_id,
    old_content_sha256,
    new_content_sha256,
    costs_fetch_id
HAVING old_usd != new_usd
ORDER BY day, project, api_key_id, line_item, quantity_unit
