"""What each SDK did: one process for each of them, started once."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Driven:
    """The lines that `drive.py` printed with one SDK."""

    def __init__(self, printed: str) -> None:
        lines = [json.loads(line) for line in printed.splitlines()]
        self.storm: dict[str, Any] = lines.pop()
        self.cells = {(line["behaviour"], line["mode"]): line for line in lines}


@pytest.fixture(scope="session")
def driven(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Driven]]:
    """Act everything out with each SDK that is asked for, two at a time: `driven("2.54.0")`."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    sdks = dict.fromkeys(call.params["sdk"] for call in calls if call and "sdk" in call.params)
    with ThreadPoolExecutor(2) as pool:
        running = {sdk: pool.submit(_drive, sdk) for sdk in sdks}

        def printed(sdk: str) -> Driven:
            found = running[sdk].result()
            if isinstance(found, str):
                pytest.fail(found, pytrace=False)
            return found

        yield printed


def _drive(sdk: str) -> Driven | str:
    """Return what happened, or why nothing did."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "COST"))
    }
    environment["COSTSPAN_CAPTURE_ESTIMATES"] = "false"  # the extra is installed here by chance
    command = [*_python_with(sdk), str(HERE / "drive.py")]
    ended = subprocess.run(
        command,
        cwd=HERE,
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    if ended.returncode:
        return f"{' '.join(command)}\n{ended.stderr[-3000:]}"
    return Driven(ended.stdout)


def _python_with(sdk: str) -> list[str]:
    """Return the command of a Python that has this SDK: our own, or one that uv puts together."""
    if sdk == openai.__version__:
        return [sys.executable]
    # The httpx that this SDK was released with: later ones took away what it used.
    httpx = ["--with", "httpx<0.28"] if sdk == "1.40.0" else []
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    newest: str = settings["tool"]["uv"]["exclude-newer"]
    return [
        *("uv", "run", "--quiet", "--no-project", "--isolated", "--python", sys.executable),
        *("--exclude-newer", newest, "--with", f"openai=={sdk}", *httpx),
        *("--with-editable", str(ROOT / "instrumentation"), "python"),
    ]
