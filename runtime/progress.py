"""How far one request has come, for whoever watches. The engine writes, any thread reads; it decides nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """Moments on :func:`time.perf_counter`'s clock: when it was queued, and when a step first took it up.

    ``prompt_tokens`` were to be read, ``generated_tokens`` are written so far.
    """

    queued_at: float | None = None
    taken_at: float | None = None
    prompt_tokens: int = 0
    generated_tokens: int = 0

    def queue(self, prompt_tokens: int) -> None:
        """It waits for the engine from now on."""
        self.queued_at, self.prompt_tokens = time.perf_counter(), prompt_tokens

    def take(self) -> None:
        """A step has it; nothing new after a preemption."""
        if self.taken_at is None:
            self.taken_at = time.perf_counter()

    @property
    def queue_seconds(self) -> float | None:
        """How long it waited, once it doesn't any more."""
        if self.queued_at is None or self.taken_at is None:
            return None
        return self.taken_at - self.queued_at
