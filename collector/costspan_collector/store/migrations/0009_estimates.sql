-- Bounds of what a call cost whose usage nobody saw (status `estimated`), by name, as they came.
-- Nothing sums over them: they are shown with the call.
ALTER TABLE calls ADD COLUMN IF NOT EXISTS
    estimate Map(LowCardinality(String), String) CODEC(ZSTD(1)) AFTER price_overrides;
