import tomllib
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[2]


def project(*folders: str) -> dict[str, str]:
    text = ROOT.joinpath(*folders, "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]


def test_both_distributions_carry_the_same_version() -> None:
    assert project()["version"] == project("instrumentation")["version"]


def test_every_command_of_the_entry_points_can_be_loaded() -> None:
    names = {point.name for point in entry_points(group="costspan.commands") if point.load()}
    assert {"price", "serve", "collector", "migrate", "reconcile", "demo"} <= names


def test_no_registry_is_named_and_no_lock_file_is_kept() -> None:
    ignored = ROOT.joinpath(".gitignore").read_text(encoding="utf-8").split()
    assert "uv.lock" in ignored
    settings = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["uv"]["exclude-newer"]
    assert "index" not in settings["tool"]["uv"]
