"""Count tokens offline, where a tokenizer is installed: `pip install costspan[tokens]`.

rs-bpe comes first. Both give the same counts, but whoever loads a vocabulary holds the
interpreter, and with it every thread of the app: rs-bpe for 40 ms, quicktok for 400 ms.
"""

import re
from collections.abc import Callable, Generator
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from costspan.counters import count

_OLDER = re.compile(
    r"(?:ft:)?(?:gpt-4(?:$|-|:)|gpt-3|text-embedding-|davinci-002|babbage-002)", re.IGNORECASE
)
"""The models of cl100k_base; later ones have o200k_base."""
_PIECE_CHARACTERS = 2**14
"""How much is counted at once: 0.4 ms in which no other thread runs."""

Count = Callable[[str], int]


@cache
def installed() -> bool:
    """Return whether tokens can be counted here. Loads nothing."""
    return any(find_spec(package) is not None for package in ("rs_bpe", "quicktok"))


def tokens(text: str, model: str) -> Generator[None, None, int]:
    """Return the tokens of a text, None yielded after each piece of it.

    Raises:
        ImportError: no tokenizer is installed, or none that works.
    """
    count_tokens = _counter("cl100k_base" if _OLDER.match(model) else "o200k_base")
    total = start = 0
    while start < len(text):
        end = start + _PIECE_CHARACTERS
        if end < len(text):  # a word begins with its space, so a cut before one moves nothing
            space = text.rfind(" ", start + 1, end)
            end = end if space < 0 else space
        piece = text[start:end]
        # Half a surrogate pair is a text in Python and in nothing else.
        total += count_tokens(piece.encode(errors="replace").decode())
        start = end
        yield
    return total


@cache
def _counter(encoding: str) -> Count:
    for load in (_rs_bpe, _quicktok):
        try:
            return load(encoding)
        except ModuleNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001
            count("tokenizer_unusable", error)
    msg = "no tokenizer works here; install costspan[tokens]"
    raise ImportError(msg)


def _rs_bpe(encoding: str) -> Count:
    return getattr(import_module("rs_bpe.bpe").openai, encoding)().count


def _quicktok(encoding: str) -> Count:
    return import_module("quicktok").get_encoding(encoding).count
