-- One row per allocation of some days that nothing needs any more: not the one that holds, and not one
-- whose weights are frozen. What a process left behind when it died is among them.
-- parameters: days Array(Date)
SELECT DISTINCT allocation_id
FROM allocation_lines
WHERE day IN {days:Array(Date)}
    AND allocation_id NOT IN
    (
        SELECT allocation_id
        FROM allocation_runs
        WHERE day IN {days:Array(Date)}
            AND (frozen OR allocation_id IN (SELECT allocation_id FROM current_allocation_runs))
    )
ORDER BY allocation_id
