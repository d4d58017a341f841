-- A row: a model that answered calls, or was asked for, since a moment.
-- parameters: since DateTime('UTC')
SELECT DISTINCT model
FROM signals_5m
WHERE slot >= {since:DateTime('UTC')} AND model != ''
