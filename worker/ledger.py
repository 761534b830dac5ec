"""What was asked of each model since the start, and what it would have cost on the platform."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any

from catalog import ModelCard
from catalog.price import neurons
from runtime.config import Usage


@dataclass(slots=True)
class Entry:
    """One model's sums: requests that came to their end, tokens, and neurons (``None`` where no price is known)."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    neurons: float | None = None


class Ledger:
    """Entries by the model's name. Any thread may write."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def note(self, card: ModelCard, usage: Usage) -> float | None:
        """Add one answer; its neurons."""
        counts = {"read": usage.prompt_tokens, "cached": usage.cached_tokens, "written": usage.completion_tokens}
        cost = neurons(card, **counts)
        with self._lock:
            entry = self._entries.setdefault(card.name, Entry())
            entry.requests += 1
            entry.prompt_tokens += usage.prompt_tokens
            entry.cached_tokens += usage.cached_tokens
            entry.completion_tokens += usage.completion_tokens
            if cost is not None:
                entry.neurons = (entry.neurons or 0.0) + cost
        return cost

    def as_rows(self) -> list[dict[str, Any]]:
        """The entries by name, as JSON."""
        with self._lock:
            return [{"model": name, **asdict(entry)} for name, entry in sorted(self._entries.items())]
