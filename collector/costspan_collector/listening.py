"""A port, and an HTTP server on it that runs beside the caller."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from costspan.errors import Rejected
from costspan_collector.settings import Receiver

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_GRACE_SECONDS = 10


def listen(receiver: Receiver) -> socket.socket:
    """Take the port.

    Raises:
        Rejected: it cannot be had; the message names it.
    """
    try:
        listener = bound(receiver.host, receiver.port)
    except OSError as error:
        msg = (
            f"port {receiver.port} on {receiver.host} cannot be used ({error.strerror}); "
            "stop what listens there, or choose another with --port or COSTSPAN_RECEIVER_PORT"
        )
        raise Rejected(msg) from error
    # asyncio sets it only on sockets that name their protocol; without, an answer in two packets
    # waits 40 ms for the sender to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address, of IPv4 or IPv6.

    Raises:
        OSError: it cannot be had.
    """
    is_ipv6 = ":" in host
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
        dualstack_ipv6=is_ipv6 and socket.has_dualstack_ipv6(),
    )


def bracketed(host: str) -> str:
    """Return a host as it stands before a port: an IPv6 address has colons of its own."""
    return f"[{host}]" if ":" in host else host


@contextmanager
def running(app: "ASGIApp", listener: socket.socket) -> Generator[str]:
    """Serve `app` until the block ends; give its address. Running requests are let finish."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        http="h11",  # bounds the headers, which httptools does not
        ws="websockets-sansio",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http")
    thread.start()
    host, port = listener.getsockname()[:2]
    try:
        yield f"http://{bracketed(host)}:{port}"
    finally:
        server.should_exit = True
        thread.join(2 * _GRACE_SECONDS)
