-- Takes users and customers out of what days before `until` were billed. Returns no rows.
-- parameters: until Date
ALTER TABLE allocations
UPDATE user = '', customer = ''
WHERE day < {until:Date} AND (user != '' OR customer != '')
SETTINGS mutations_sync = 1
