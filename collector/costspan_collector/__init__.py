"""Receive spans, make calls of them, keep them in ClickHouse."""
