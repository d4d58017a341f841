-- One row per allocation of a day that nothing needs any more: not the one that holds, and not one
-- whose weights are frozen. What a process left behind when it died is among them.
-- parameters: day Date
SELECT DISTINCT allocation_id
FROM allocation_lines
WHERE day = {day:Date}
    AND allocation_id NOT IN
    (
        SELECT allocation_id
        FROM allocation_runs
        WHERE day = {day:Date} AND (frozen OR allocation_id IN (SELECT allocation_id FROM current_allocation_runs))
    )
ORDER BY allocation_id
