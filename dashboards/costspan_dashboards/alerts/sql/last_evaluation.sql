-- A row: the last run of the alert job.
-- parameters: none
SELECT started_at, ended_at, toString(status) AS status, detail
FROM job_runs
WHERE job = 'alerts'
ORDER BY started_at DESC
LIMIT 1
