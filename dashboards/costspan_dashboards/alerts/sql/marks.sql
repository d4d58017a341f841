-- A row: an operator's mark that was not taken back, the newest first.
-- parameters: none
SELECT mark_id, toString(kind) AS kind, since, until, dimension, value, author, comment, at, undone
FROM alert_marks FINAL
WHERE NOT undone
ORDER BY at DESC, mark_id
