-- One row per scheduled job: its last run, and when it last worked (NULL where it never did).
-- parameters: none
SELECT
    j.job AS job,
    argMax(j.status, j.ended_at) AS status,
    max(j.ended_at) AS ended_at,
    maxIfOrNull(j.ended_at, j.status = 'ok') AS worked_at,
    argMax(j.detail, j.ended_at) AS detail
FROM job_runs AS j
GROUP BY j.job
ORDER BY j.job
