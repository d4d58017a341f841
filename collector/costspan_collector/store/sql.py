"""SQL lives in files beside the code that names its rows."""

from functools import cache
from importlib.resources import files


@cache
def load_sql(package: str, name: str) -> str:
    """Return the text of `sql/<name>.sql` in `package`."""
    return files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
