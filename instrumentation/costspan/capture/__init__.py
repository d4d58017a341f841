"""One span for each OpenAI call: hooks at the point every call of the SDK goes through."""

from costspan.capture.hooks import Capture

__all__ = ["Capture"]
