"""The bindings a Worker finds in its ``env``."""

from worker.bindings.ai import AI

__all__ = ["AI"]
