-- One row: what became of a month on its way to the books; none where it is open.
-- parameters: month Date
SELECT state FROM current_periods WHERE month = {month:Date}
