"""The only code that talks to ClickHouse.

>>> store = connect("chdb://./costspan-data")
>>> migrate(store)
"""

from costspan_collector.store.client import Row, Store, attach, connect
from costspan_collector.store.migrate import Migration, migrate, pending
from costspan_collector.store.sql import load_sql

__all__ = ["Migration", "Row", "Store", "attach", "connect", "load_sql", "migrate", "pending"]
