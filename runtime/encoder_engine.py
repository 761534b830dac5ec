"""One loaded encoder shared by many requests: a thread that reads the texts of all of them, batch after batch.

Async code meets the thread at :meth:`EncoderEngine.submit` and :meth:`Embedding.abort` alone. Tokens in, vectors
out: it knows neither text nor any API.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.config import Pooling
from runtime.encoder_session import EncoderSession, Row
from runtime.engine import EngineStats
from runtime.engine_thread import EngineThread
from runtime.errors import EngineFailed, Overloaded
from runtime.length_batches import choose
from runtime.progress import Progress

MOST_WAITING = 8192
"""Texts that may wait, over all requests; past it requests are refused."""
_log = logging.getLogger(__name__)


class Embedding:
    """A submitted request, for the event loop that it was submitted on."""

    def __init__(self, engine: EncoderEngine, count: int, progress: Progress) -> None:
        self._engine = engine
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._whole: asyncio.Future[NDArray[np.float32]] = self._loop.create_future()
        self._parts: list[NDArray[np.float32] | None] = [None] * count
        self._missing = count
        self.begun = False

    async def vectors(self) -> NDArray[np.float32]:
        """One vector for each text, float32 ``[texts, dimensions]``; whoever gives up waiting stops the computation.

        Raises :class:`EngineFailed` where a step failed.
        """
        try:
            return await self._whole
        finally:
            self.abort()

    def begin(self) -> None:
        """Its first text is in a batch."""
        self.begun = True
        self._progress.take()

    def abort(self) -> None:
        """Read no more of it from the next batch on. Idempotent, from any thread."""
        self._engine._forget(self)

    def _deliver(self, place: int, vector: NDArray[np.float32]) -> bool:
        """Called on the engine's thread: whether that was the last one."""
        self._parts[place] = vector
        self._missing -= 1
        if not self._missing:
            self._tell(np.stack([part for part in self._parts if part is not None]))
        return not self._missing

    def _tell(self, outcome: NDArray[np.float32] | Exception) -> None:
        with suppress(RuntimeError):  # a loop that was closed took its reader with it
            self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: NDArray[np.float32] | Exception) -> None:
        if self._whole.done():
            return
        if isinstance(outcome, Exception):
            self._whole.set_exception(outcome)
        else:
            self._whole.set_result(outcome)


@dataclass(frozen=True, slots=True)
class _Text:
    embedding: Embedding
    place: int
    row: Row


class EncoderEngine(EngineThread):
    """Batches over one session. Threads: its own, and any number of callers."""

    takes_adapters = False

    def __init__(self, session: EncoderSession) -> None:
        super().__init__("roost-encoder")
        self.capacity = session.longest
        self.dimensions = session.dimensions
        self._session = session
        # Guarded by the condition.
        self._waiting: list[_Text] = []
        self._requests: set[Embedding] = set()
        self._steps = 0
        self._batches: list[int] = []
        self._thread.start()

    def submit(self, texts: Sequence[Sequence[int]], pooling: Pooling, progress: Progress | None = None) -> Embedding:
        """Queue texts, each of at least one token and at most ``capacity``; on the loop that will read the vectors.

        ``progress`` hears how far it comes. Raises :class:`Overloaded` where too many wait, :class:`EngineFailed` once
        closed.
        """
        progress = progress or Progress()
        embedding = Embedding(self, len(texts), progress)
        rows = [_Text(embedding, place, Row(tuple(tokens), pooling)) for place, tokens in enumerate(texts)]
        with self._wake:
            if not self._open:
                raise EngineFailed("the engine is closed")
            if self._waiting and len(self._waiting) + len(rows) > MOST_WAITING:
                raise Overloaded("the engine's queue is full")
            progress.queue(sum(map(len, texts)))
            self._requests.add(embedding)
            self._waiting += rows
            self._wake.notify()
        return embedding

    def stats(self) -> EngineStats:
        """A snapshot: requests that are being read and those that wait, and the batches since the start."""
        with self._wake:
            running = sum(request.begun for request in self._requests)
            waiting = len(self._requests) - running
            batches = tuple(self._batches)
        return EngineStats(running=running, waiting=waiting, steps=self._steps, batches=batches)

    def _forget(self, embedding: Embedding) -> None:
        with self._wake:
            if embedding in self._requests:
                self._requests.discard(embedding)
                self._waiting = [text for text in self._waiting if text.embedding is not embedding]

    def _work(self) -> None:
        while batch := self._next():
            try:
                vectors = self._session.run([text.row for text in batch])
            except Exception as error:  # ONNX Runtime's exceptions share no base class
                _log.exception("a step failed")
                for text in batch:
                    self._end(text.embedding, EngineFailed(f"the model failed: {error}"))
                continue
            self._count(len(batch))
            for text, vector in zip(batch, vectors, strict=True):
                if text.embedding._deliver(text.place, vector):
                    self._forget(text.embedding)
        with self._wake:
            left = list(self._requests)
        for embedding in left:
            self._end(embedding, EngineFailed("the engine was closed"))
        self._session.close()

    def _count(self, texts: int) -> None:
        with self._wake:
            self._steps += 1
            self._batches += [0] * (texts + 1 - len(self._batches))
            self._batches[texts] += 1

    def _next(self) -> list[_Text]:
        """The next batch, taken from those that wait; sleeps while none do. Nothing once closed."""
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or not self._open)
            if not self._open:
                return []
            taken = choose([len(text.row.tokens) for text in self._waiting])
            batch = [self._waiting[place] for place in taken]
            for place in reversed(taken):
                del self._waiting[place]
            for text in batch:
                text.embedding.begin()
            return batch

    def _end(self, embedding: Embedding, error: EngineFailed) -> None:
        self._forget(embedding)
        embedding._tell(error)
