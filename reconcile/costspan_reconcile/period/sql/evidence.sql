-- One row per file of the evidence pack of a locked month.
-- parameters: close_id UUID
SELECT close_id, name, toString(sha256) AS sha256, body
FROM evidence
WHERE close_id = {close_id:UUID}
ORDER BY name
