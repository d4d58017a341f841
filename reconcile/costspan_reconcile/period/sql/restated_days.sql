-- One row per day of a locked month whose bill is no longer what was locked, and adjusted since.
-- parameters: none
SELECT
    locked.month AS original_month,
    locked.day AS day,
    locked.run_id AS locked_run_id,
    locked.costs_fetch_id AS old_fetch_id,
    newest.revision_fetch_id AS costs_fetch_id,
    if(accounted.content_sha256 = '', locked.content_sha256, accounted.content_sha256) AS old_content_sha256,
    newest.content_sha256 AS new_content_sha256
FROM locked_days AS locked
INNER JOIN (SELECT day, revision_fetch_id, content_sha256 FROM good_readings WHERE source = 'costs') AS newest
    ON newest.day = locked.day
LEFT JOIN
(
    SELECT day, argMax(new_content_sha256, booked_at) AS content_sha256
    FROM adjustments
    GROUP BY day
) AS accounted ON accounted.day = locked.day
WHERE old_content_sha256 != new_content_sha256
ORDER BY day
