-- A row: the claim that won one try of one message.
-- parameters: message_id String, try_number UInt16
SELECT argMin(claim_id, (at, claim_id)) AS claim_id
FROM notifications
WHERE message_id = {message_id:String} AND try_number = {try_number:UInt16} AND outcome = 'claimed'
HAVING count() > 0
