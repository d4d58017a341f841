-- One row: the time by the clock that marks hours as touched.
-- parameters: none
SELECT now64(6, 'UTC') AS at
