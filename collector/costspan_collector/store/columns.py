"""The columns that the migrations make, for a time in which no server can be asked.

An engine in a process of its own applies them to a scratch directory, and is asked instead.
"""

import json
import subprocess
import sys
from functools import cache

_TELL = """
import json, sys, tempfile
from dataclasses import dataclass
from costspan_collector.store import connect, migrate

@dataclass
class Table:
    table: str
    columns: dict[str, str]

SQL = "SELECT table, groupArray((name, type))::Map(String, String) AS columns " \\
      "FROM system.columns WHERE database = currentDatabase() GROUP BY table"

with tempfile.TemporaryDirectory() as directory:
    store = connect(f"chdb://{directory}")
    migrate(store)
    json.dump({row.table: row.columns for row in store.select(SQL, Table)}, sys.stdout)
    store.close()
"""


@cache
def shipped_columns() -> dict[str, dict[str, str]]:
    """Return the types of the columns of every table."""
    told = subprocess.run([sys.executable, "-c", _TELL], capture_output=True, check=True)  # noqa: S603
    columns: dict[str, dict[str, str]] = json.loads(told.stdout)
    return columns
