"""A statement of a migration as a cluster needs it: the same tables, on every replica.

The one form of the schema is that of the `.sql` files. On a cluster each statement goes to all its
servers, and a table replicates itself under its own id and the server's `shard` and `replica`
macros.
"""

import re

_COMMENT = re.compile(r"\A(?:\s*--[^\n]*\n)*\s*")
_NAMED = re.compile(
    r"(?P<verb>"
    r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|(?:MATERIALIZED\s+)?VIEW)(?:\s+IF\s+NOT\s+EXISTS)?"
    r"|DROP\s+(?:TABLE|VIEW)(?:\s+IF\s+EXISTS)?"
    r"|ALTER\s+TABLE"
    r"|EXCHANGE\s+TABLES\s+\w+\s+AND"
    r"|RENAME\s+TABLE\s+\w+\s+TO"
    r")\s+(?P<name>\w+)"
)
_ENGINE = re.compile(r"\bENGINE = (\w*MergeTree)(?:\(([^)]*)\))?")
_WINDOW = re.compile(r"\bnon_replicated_deduplication_window = (\d+)")

_REPLICATED = r"'/clickhouse/tables/{uuid}/{shard}', '{replica}'"
_WINDOW_SECONDS = 30 * 86_400
"""A segment may wait for its server for weeks; the engine would forget its token in an hour."""


def on_cluster(statement: str, cluster: str) -> str:
    """Return `statement` for all servers of `cluster`; rows are replicated, so DML stays."""
    start = _COMMENT.match(statement)
    found = _NAMED.match(statement, start.end() if start else 0)
    if found is None:
        return statement
    named = f"{statement[: found.end()]} ON CLUSTER '{cluster}'"
    rest = _ENGINE.sub(_replicated, statement[found.end() :])
    rest = _WINDOW.sub(
        rf"replicated_deduplication_window = \1, "
        rf"replicated_deduplication_window_seconds = {_WINDOW_SECONDS}",
        rest,
    )
    return named + rest


def _replicated(engine: re.Match[str]) -> str:
    arguments = ", ".join(filter(None, (_REPLICATED, engine[2])))
    return f"ENGINE = Replicated{engine[1]}({arguments})"
