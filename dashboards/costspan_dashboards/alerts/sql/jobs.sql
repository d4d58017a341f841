-- A row: how a scheduled job has gone of late. It should run as often as it usually has. One that
-- only says what it lacks to be set up has not run.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), not_set_up String
SELECT
    job,
    max(began_at) AS last_started_at,
    any(ok_at) AS last_ok_at,
    toUInt64(arrayReduce('median', arrayPopFront(arrayDifference(arraySort(groupArray(toUnixTimestamp(began_at))))))) AS usual_gap_seconds,
    countIf(run_status = 'failed' AND (ok_at IS NULL OR began_at >= ok_at)) AS failures,
    argMax(run_detail, began_at) AS detail
FROM
(
    SELECT
        job,
        started_at AS began_at,
        status AS run_status,
        detail AS run_detail,
        max(if(status = 'failed', NULL, toNullable(ended_at))) OVER (PARTITION BY job) AS ok_at
    FROM job_runs
    WHERE started_at >= {since:DateTime('UTC')} AND started_at < {until:DateTime('UTC')} AND job != 'alerts' AND detail != {not_set_up:String}
)
GROUP BY job
HAVING count() >= 3
ORDER BY job
