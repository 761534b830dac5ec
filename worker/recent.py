"""The requests that run and the last that did, with their times, for whoever looks. Answers are not kept."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from runtime.config import Usage
from runtime.pool import ServedBy
from runtime.progress import Progress

if TYPE_CHECKING:
    from worker.call import Call

_KEPT = 100
_LONGEST_NAME = 100  # characters: a name comes from outside
Outcome = Literal["running", "done", "failed", "left"]


@dataclass(slots=True, eq=False)
class Entry:
    """One request. Times in seconds: ``first`` until the first token, ``took`` until the end; ``at`` since the epoch.

    ``left``: its client went away before the end, and the computing with it. ``code``: why it failed. ``reason``: why
    the answer ended. ``prompt``: what was asked, where prompts are to be logged.
    """

    request_id: str
    model: str
    streaming: bool
    at: float
    began: float
    progress: Progress
    outcome: Outcome = "running"
    code: int | None = None
    reason: str | None = None
    first: float | None = None
    took: float | None = None
    usage: Usage | None = None
    served_by: ServedBy | None = None
    prompt: str | None = None
    on_end: Callable[[Entry], None] = field(default=lambda _: None, repr=False)

    def start(self, served_by: ServedBy | None) -> None:
        """The first token is there."""
        self.first, self.served_by = time.perf_counter() - self.began, served_by

    def finish(self, usage: Usage, reason: str | None) -> None:
        """It came to its end."""
        self.usage, self.reason = usage, reason
        self._end("done")

    def fail(self, code: int) -> None:
        """It was refused, or broke off, with the platform's ``code``."""
        if self.outcome == "running":
            self.code = code
            self._end("failed")

    def leave(self) -> None:
        """Nobody waits for it any more; nothing new where it has ended."""
        if self.outcome == "running":
            self._end("left")

    def _end(self, outcome: Outcome) -> None:
        self.outcome, self.took = outcome, time.perf_counter() - self.began
        self.on_end(self)

    @property
    def state(self) -> str:
        """Where it is: ``waiting`` for a model or a row, ``reading`` its prompt, ``writing``, or its outcome."""
        if self.outcome != "running":
            return self.outcome
        if self.progress.generated_tokens or self.first is not None:
            return "writing"
        return "waiting" if self.progress.taken_at is None else "reading"

    @property
    def tokens(self) -> int:
        """How many were written so far."""
        return self.progress.generated_tokens if self.usage is None else self.usage.completion_tokens

    @property
    def per_token(self) -> float | None:
        """Seconds for each token behind the first, up to now or to the end; ``None`` until there are two."""
        if self.first is None or self.tokens < 2:
            return None
        took = time.perf_counter() - self.began if self.took is None else self.took
        return (took - self.first) / (self.tokens - 1)

    def as_row(self) -> dict[str, Any]:
        """The entry as JSON, with its age and the tokens per second behind the first."""
        rounded = {name: _rounded(getattr(self, name)) for name in ("first", "took")}
        age = self.took if self.took is not None else time.perf_counter() - self.began
        served_by = self.served_by
        return {
            "request_id": self.request_id,
            "model": self.model,
            "streaming": self.streaming,
            "at": self.at,
            "outcome": self.outcome,
            "state": self.state,
            "code": self.code,
            "reason": self.reason,
            "age": round(age, 4),
            "queued": _rounded(self.progress.queue_seconds),
            **rounded,
            "prompt_tokens": self.usage.prompt_tokens if self.usage else self.progress.prompt_tokens or None,
            "cached_tokens": self.usage.cached_tokens if self.usage else None,
            "completion_tokens": self.tokens,
            "weights": served_by.weights if served_by else None,
            "stand_in": served_by is not None and served_by.stand_in,
            "device": served_by.device if served_by else None,
            "tokens_per_second": round(1 / self.per_token, 1) if self.per_token else None,
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


Listener: TypeAlias = Callable[[Entry], None]
_here: contextvars.ContextVar[list[Entry] | None] = contextvars.ContextVar("roost_entries", default=None)


def gathered() -> list[Entry]:
    """A list that gets the entries of this context's requests from now on."""
    entries: list[Entry] = []
    _here.set(entries)
    return entries


class Recent:
    """The last hundred requests, and all that run. Any thread may write.

    ``note``: what an entry keeps of a request's inputs; nothing at first.
    """

    def __init__(self) -> None:
        self.note: Callable[[object], str | None] = lambda _: None
        self._entries: deque[Entry] = deque(maxlen=_KEPT)
        self._running: set[Entry] = set()
        self._on_begin: list[Listener] = []
        self._on_end: list[Listener] = []
        self._lock = threading.Lock()

    def listen(self, *, begin: Listener | None = None, end: Listener | None = None) -> None:
        """Hear of every request at its beginning, at its end."""
        self._on_begin += [begin] if begin else []
        self._on_end += [end] if end else []

    def begin(self, call: Call) -> Entry:
        """Note that a request came in; the entry hears how it goes on."""
        entry = Entry(
            call.request_id,
            call.model[:_LONGEST_NAME],
            call.streaming,
            time.time(),
            time.perf_counter(),
            call.progress,
            prompt=self.note(call.inputs),
            on_end=self._ended,
        )
        with self._lock:
            self._entries.append(entry)
            self._running.add(entry)
        if (entries := _here.get()) is not None:
            entries.append(entry)
        for listener in self._on_begin:
            listener(entry)
        return entry

    def running(self) -> list[Entry]:
        """The requests that have not ended, the oldest first."""
        with self._lock:
            return sorted(self._running, key=lambda entry: entry.began)

    def as_rows(self) -> list[dict[str, Any]]:
        """The last entries as JSON, the newest first."""
        with self._lock:
            entries = list(self._entries)
        return [entry.as_row() for entry in reversed(entries)]

    def _ended(self, entry: Entry) -> None:
        with self._lock:
            self._running.discard(entry)
        for listener in self._on_end:
            listener(entry)
