"""What can go wrong, as one tree.

CostspanError
├── Unavailable      try again: the other side did not answer, or said "later"
└── Rejected         never will work as asked: the message says what to change
    └── InvalidUsage a response reports token counts that cannot be true
"""


class CostspanError(Exception):
    """Anything costspan raises on purpose."""


class Unavailable(CostspanError):
    """The other side did not answer or asked for patience; the same call may work later."""


class Rejected(CostspanError):
    """The call will never work as it was made; the message says what to change."""


class InvalidUsage(Rejected):
    """A response reports usage that cannot be true, such as more cached than input tokens."""
