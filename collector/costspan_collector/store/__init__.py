"""The only code that talks to ClickHouse."""
