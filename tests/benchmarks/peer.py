"""What the speed benchmark asks of each side, and how it counts."""

from __future__ import annotations

from typing import Protocol

STEPS = 24  # tokens per row and measurement
WARM = 4  # steps before them that don't count: the other sides' threads and caches are in the way


class Peer(Protocol):
    """Something that decodes the stand-in's weights. ``None`` where it isn't measured."""

    name: str

    def decode(self, rows: int, context: int) -> float | None:
        """Tokens per second over all rows, one token each at a time."""

    def prefill(self, tokens: int) -> float | None:
        """Prompt tokens per second, the last one's logits computed."""
