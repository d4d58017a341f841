-- One row if a day is shared out: whether its weights are frozen, since it is final.
-- parameters: day Date
SELECT frozen
FROM current_allocation_runs
WHERE day = {day:Date}
