-- One row per UTC hour whose rollups lack something that came, oldest first.
-- parameters: none
SELECT hour FROM dirty_hours ORDER BY hour
