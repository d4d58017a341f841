-- One row per step of a run that is kept in the audit log, oldest first.
-- parameters: none
SELECT at, actor, action, subject, detail
FROM audit_log
WHERE action LIKE 'reprice.%'
ORDER BY at
