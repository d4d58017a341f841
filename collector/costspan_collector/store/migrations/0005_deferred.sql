-- A call that only submitted work lacks no price: the work is a row of its own when it is done.
ALTER TABLE calls MODIFY COLUMN
    unpriced Bool ALIAS cost_usd IS NULL AND price_status NOT IN ('not_billed', 'deferred')
                        AND NOT (status = 'error' AND price_status = '');
