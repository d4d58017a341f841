-- Takes users, customers and ids out of the calls before `until`. Returns no rows.
-- parameters: until Date
ALTER TABLE calls
UPDATE user = '', customer = '', response_id = '', request_id = ''
WHERE started_at < {until:Date}
    AND (user != '' OR customer != '' OR response_id != '' OR request_id != '')
SETTINGS mutations_sync = 1
