"""Our own webhook: each message as JSON, signed, with a key by which a second one is known."""

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime

from costspan_dashboards.alerts.message import Message
from costspan_dashboards.alerts.wire import Outcome, send


class WebhookChannel:
    """Sends `message.payload` (schema 1) to one address.

    `Costspan-Signature: t=SECONDS,v1=HEX` is the HMAC-SHA256 of `SECONDS.BODY` by the secret;
    `Idempotency-Key` is the same at every try.
    """

    name = "webhook"
    keyed = True

    def __init__(
        self,
        url: str,
        secret: str,
        timeout_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._url = url
        self._secret = secret
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    def send(self, message: Message) -> Outcome:
        """Send once."""
        body = json.dumps(message.payload, ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.message_id,
        }
        if self._secret:
            at = int(self._clock().timestamp())
            headers["Costspan-Signature"] = f"t={at},v1={signature(self._secret, at, body)}"
        return send("POST", self._url, self._timeout_seconds, content=body, headers=headers)


def signature(secret: str, at: int, body: bytes) -> str:
    """Return what a receiver works out again to know that a body is ours, and how old it is."""
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
