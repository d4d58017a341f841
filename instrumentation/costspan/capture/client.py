"""What a client of the SDK tells about every call it makes; worked out once a client."""

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit
from weakref import ref

from costspan import semconv
from costspan.capture.answer import Attributes, put, text
from costspan.settings import Settings

_SHORTEST_KEY_WITH_HINT = 20


class Client(NamedTuple):
    """A client, as its spans show it."""

    it: ref[Any]
    base_url: object
    api_key: object
    host: str
    priced: bool
    """Whether the host charges OpenAI's prices."""
    place: Attributes
    """Provider, server and port."""
    key: Attributes
    """What may be shown of the API key."""
    openings: dict[tuple[str, str, str | None, bool], tuple[str, Attributes]]
    """Name and first attributes of the spans made for it so far, by kind."""


class Clients:
    """The clients seen so far. One whose key or address changes is looked at again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[int, Client] = {}
        """By identity, which is quicker to look up than a weak key."""

    def seen(self, client: Any) -> Client:  # noqa: ANN401
        """Return what `client` tells."""
        known = self._known.get(id(client))
        base_url, api_key = client.base_url, getattr(client, "api_key", None)
        if (
            known is None
            or known.it() is not client
            or known.base_url is not base_url
            or known.api_key != api_key
        ):
            known = self._known[id(client)] = self._look(client, base_url, api_key)
        return known

    def _look(self, client: Any, base_url: object, api_key: object) -> Client:  # noqa: ANN401
        server = urlsplit(str(base_url))
        host = (server.hostname or "").lower()
        azure = host.endswith(".azure.com") or "Azure" in type(client).__name__
        forget = partial(self._known.pop, id(client), None)
        return Client(
            it=ref(client, lambda _: forget()),
            base_url=base_url,
            api_key=api_key,
            host=host,
            priced=self._settings.prices(host),
            place={
                semconv.PROVIDER: "azure.ai.openai" if azure else "openai",
                semconv.SERVER_ADDRESS: host,
                semconv.SERVER_PORT: server.port
                or (80 if server.scheme in {"http", "ws"} else 443),
            },
            key=(
                key_sent(getattr(client, "_custom_headers", None))
                or ({} if _changes(client) else _shown(api_key))
            ),
            openings={},
        )


def key_sent(headers: object) -> Attributes | None:
    """Return what may be shown of the key in headers of the app's own, None where there is none."""
    if not isinstance(headers, Mapping):
        return None
    for name, value in cast("Mapping[object, object]", headers).items():
        if isinstance(name, str) and name.lower() == "authorization" and isinstance(value, str):
            return _shown(value.removeprefix("Bearer "))
    return None


def _changes(client: Any) -> bool:  # noqa: ANN401
    """Return whether what the client sends is a token that changes and names nobody in a bill."""
    tokens = ("_azure_ad_token", "_azure_ad_token_provider", "_api_key_provider")
    return any(getattr(client, token, None) is not None for token in tokens)


def _shown(api_key: object) -> Attributes:
    """Return a key's fingerprint, and its end if it is long enough to give that away."""
    key = api_key.strip() if isinstance(api_key, str) else ""
    if not key or key.startswith("<"):
        return {}
    digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()
    found: Attributes = {semconv.KEY_FINGERPRINT: digest[:16]}
    if len(key) >= _SHORTEST_KEY_WITH_HINT:
        put(found, semconv.KEY_HINT, text(key[-4:]))
    return found
