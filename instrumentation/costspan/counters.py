"""What costspan dropped or swallowed in this process, by reason.

Nothing that goes wrong in here may reach the app, so it is counted instead, and each reason is
logged at most once in `LOG_EVERY_SECONDS`.
"""

import logging
import os
import threading
import time
from collections import Counter

LOG_EVERY_SECONDS = 300.0

_log = logging.getLogger("costspan")
_lock = threading.RLock()  # a garbage collection in here may count too
if hasattr(os, "register_at_fork"):  # a child must not inherit a lock that nobody will release
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
_counts: Counter[str] = Counter()
_logged_at: dict[str, float] = {}


def counters() -> dict[str, int]:
    """Return how often each reason was counted since the process started."""
    with _lock:
        return dict(_counts)


def count(reason: str, error: BaseException | None = None, *, times: int = 1) -> None:
    """Count `reason`, and log it if it was not logged lately.

    The log line names the kind of error and where it was raised, never its message: a message
    may quote a prompt or a key.
    """
    now = time.monotonic()
    with _lock:
        _counts[reason] += times
        due = now - _logged_at.get(reason, -LOG_EVERY_SECONDS) >= LOG_EVERY_SECONDS
        if due:
            _logged_at[reason] = now
    if due:
        _log.warning("costspan: %s%s; the app is not affected", reason, _place(error))


def _place(error: BaseException | None) -> str:
    if error is None:
        return ""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = "" if last is None else f" at {last.tb_frame.f_code.co_name}:{last.tb_lineno}"
    return f" ({type(error).__name__}{where})"
