-- One row per UTC day, project, key hint, model and meter: what spans hold that was surely not billed,
-- since another span reports the same answer, or since the call failed.
-- parameters: since Date, until Date
SELECT
    day,
    project,
    key_hint,
    model,
    entry.1 AS meter,
    sumIf(entry.2, nth > 1) AS duplicates,
    sumIf(entry.2, nth = 1) AS failures
FROM
(
    SELECT
        day,
        project,
        key_hint,
        model,
        failed,
        if(response_id = '', 1, row_number() OVER (PARTITION BY response_id ORDER BY trace_id, span_id)) AS nth,
        arrayJoin(used) AS entry
    FROM
    (
        SELECT day, project, key_hint, model, failed, response_id, trace_id, span_id, used
        FROM used_calls(since = {since:Date}, until = {until:Date})
        WHERE notEmpty(used) AND
        (
            failed OR response_id IN
            (
                SELECT response_id
                FROM used_calls(since = {since:Date}, until = {until:Date})
                WHERE notEmpty(used) AND response_id != ''
                GROUP BY response_id
                HAVING count() > 1
            )
        )
    )
)
WHERE nth > 1 OR failed
GROUP BY day, project, key_hint, model, meter
ORDER BY day, project, key_hint, model, meter
SETTINGS do_not_merge_across_partitions_select_final = 1
