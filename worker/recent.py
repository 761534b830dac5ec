"""The last requests and how long they took, for whoever looks; prompts and answers are not kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Literal

from runtime.config import Usage
from runtime.pool import ServedBy

_KEPT = 100
_LONGEST_NAME = 100  # characters: a name comes from outside
Outcome = Literal["running", "done", "failed", "left"]


@dataclass(slots=True)
class Entry:
    """One request. Times in seconds: ``first`` until the first token, ``took`` until the end; ``at`` since the epoch.

    ``left``: its client went away before the end, and the computing with it. ``code``: why it failed.
    """

    request_id: str
    model: str
    streaming: bool
    at: float
    began: float
    outcome: Outcome = "running"
    code: int | None = None
    first: float | None = None
    took: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    weights: str | None = None
    stand_in: bool = False
    device: str | None = None

    def start(self, served_by: ServedBy | None) -> None:
        """The first token is there."""
        self.first = time.perf_counter() - self.began
        if served_by is not None:
            self.weights, self.stand_in, self.device = served_by.weights, served_by.stand_in, served_by.device

    def finish(self, usage: Usage) -> None:
        """It came to its end."""
        self.prompt_tokens, self.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        self._end("done")

    def fail(self, code: int) -> None:
        """It was refused, or broke off, with the platform's ``code``."""
        self.code = code
        self._end("failed")

    def leave(self) -> None:
        """Nobody waits for it any more; nothing new where it has ended."""
        if self.outcome == "running":
            self._end("left")

    def _end(self, outcome: Outcome) -> None:
        self.outcome, self.took = outcome, time.perf_counter() - self.began

    def as_row(self) -> dict[str, Any]:
        """The entry as JSON, with the tokens per second between the first and the last."""
        row = asdict(self)
        del row["began"]
        for name in ("first", "took"):
            row[name] = None if row[name] is None else round(row[name], 4)
        return {**row, "tokens_per_second": self._speed()}

    def _speed(self) -> float | None:
        """None for one token: a time between the first and the last takes two."""
        if self.took is None or self.first is None or (self.completion_tokens or 0) < 2:
            return None
        spent = self.took - self.first
        return round(((self.completion_tokens or 0) - 1) / spent, 1) if spent > 0 else None


class Recent:
    """The last hundred requests. Any thread may write."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def begin(self, model: str, request_id: str, *, streaming: bool) -> Entry:
        """Note that a request came in; the entry hears how it goes on."""
        entry = Entry(request_id, model[:_LONGEST_NAME], streaming, time.time(), time.perf_counter())
        with self._lock:
            self._entries.append(entry)
        return entry

    def as_rows(self) -> list[dict[str, Any]]:
        """The entries as JSON, the newest first."""
        with self._lock:
            return [entry.as_row() for entry in reversed(self._entries)]
