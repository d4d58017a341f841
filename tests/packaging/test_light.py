"""What an app installs is light: one import pulls in nothing it did not ask for."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HEAVY = (
    "openai",
    "clickhouse_connect",
    "chdb",
    "streamlit",
    "apscheduler",
    "pydantic",
    "opentelemetry.sdk",
    "costspan_collector",
)


def loaded_by(statement: str) -> set[str]:
    script = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return set(json.loads(ended.stdout))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import costspan").isdisjoint(HEAVY)


def test_the_one_import_does_not_load_openai_or_the_server() -> None:
    assert loaded_by("import costspan.auto").isdisjoint(set(HEAVY) - {"opentelemetry.sdk"})


def test_the_price_command_loads_nothing_heavy() -> None:
    assert loaded_by("import costspan.cli").isdisjoint(HEAVY)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("wheel")
    root = Path(__file__).parents[2]
    subprocess.run(
        ["uv", "build", "--offline", "--wheel", "--package", "costspan", "--out-dir", str(into)],
        cwd=root,
        capture_output=True,
        timeout=100,
        check=True,
    )
    return next(into.glob("*.whl"))


def test_the_light_wheel_holds_the_package_the_book_and_its_commands(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        points = next(name for name in names if name.endswith("entry_points.txt"))
        declared = archive.read(points).decode()
    packages = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"costspan"}
    assert {"costspan/pricing/book.json", "costspan/py.typed"} <= set(names)
    commands = declared.split("[costspan.commands]")[1].split("[")[0].split()
    assert commands[::3] == ["doctor", "price"]
