"""One import that records what your OpenAI calls cost.

`import costspan.auto` is the whole set-up; `costspan.install(...)` is the same with arguments.
"""

from costspan.attribution import attribute
from costspan.counters import counters
from costspan.install import Installation, install

__all__ = ["Installation", "attribute", "counters", "install"]
