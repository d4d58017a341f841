"""The socket at which a server does what commands ask of it."""

import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from costspan.errors import Rejected
from costspan_dashboards.alerts.desk import ToSilence, hand_over, open_desk

EVERYTHING = ToSilence((), 60.0, "ada", "deploy")


def served(directory: Path) -> Any:
    """Return as much of a store as a request needs that is refused before it gets there."""
    return SimpleNamespace(url=f"chdb://{directory}")


# The client leaves a socket to be closed that nobody answered at.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_only_the_servers_user_gets_in_and_a_killed_servers_socket_is_in_nobodys_way(
    tmp_path: Path,
) -> None:
    path, url = tmp_path / "commands.sock", f"chdb://{tmp_path}"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert hand_over(url, EVERYTHING) is None
    with open_desk(served(tmp_path)):
        assert stat.filemode(path.stat().st_mode) == "srw-------"
        with pytest.raises(Rejected, match="a silence of everything"):
            hand_over(url, EVERYTHING)
    assert not path.exists()


def test_a_server_that_fails_leaves_no_socket(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_desk(served(tmp_path)):
        assert (tmp_path / "commands.sock").exists()
        raise RuntimeError
    assert not (tmp_path / "commands.sock").exists()


def test_a_directory_is_the_one_that_its_url_names(tmp_path: Path) -> None:
    directory = tmp_path / "50%25 ours"
    directory.mkdir()
    with open_desk(served(directory)), pytest.raises(Rejected, match="a silence of everything"):
        hand_over(f"chdb://{tmp_path}/50%2525%20ours?x=y", EVERYTHING)


def test_a_server_of_another_release_says_that_it_does_not_know_what_is_asked(
    tmp_path: Path,
) -> None:
    socket_of_it = httpx2.HTTPTransport(uds=str(tmp_path / "commands.sock"))
    with open_desk(served(tmp_path)), httpx2.Client(transport=socket_of_it) as client:
        answer = client.post("http://costspan/", content=b'{"to_do": "what is new"}')
    assert (answer.status_code, "restart it" in answer.text) == (400, True)


def test_a_clickhouse_server_needs_no_socket() -> None:
    with open_desk(SimpleNamespace(url="https://db.example:8443/costspan")):  # pyright: ignore
        assert hand_over("https://db.example:8443/costspan", EVERYTHING) is None
