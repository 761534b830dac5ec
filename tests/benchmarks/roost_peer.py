"""roost as a side of the benchmark: its session over the stand-in's decoder, without doors and scheduler."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from runtime.config import EngineConfig
from runtime.device import Device
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from tests.benchmarks.peer import STEPS, WARM

_FIRST, _LAST = 100, 40_000  # of the token ids that are drawn from


class Roost:
    """The decoder that ``roost pull --stand-in`` built, under the session that serves it."""

    name = "roost"

    def __init__(
        self,
        decoder: Path,
        threads: int | None,
        capacity: int,
        rows: int,
        *,
        device: Device | None = None,
        capture: bool = False,
    ) -> None:
        self._session = DecoderSession(
            decoder, slots=rows, capacity=capacity, device=device or Device(), threads=threads, capture=capture
        )
        self._random = np.random.default_rng(1)
        self._rows, self._capacity = rows, capacity

    def fill(self) -> None:
        """Write real keys and values everywhere: untouched pages would all be one page of zeros."""
        for row in range(self._rows):
            self._read(row, self._capacity)

    def decode(self, rows: int, context: int) -> float:
        """Tokens per second over all rows, one token each at a time."""
        plans = [self._step(rows, context + step) for step in range(WARM + STEPS)]
        for plan in plans[:WARM]:
            self._session.run(plan)
        started = time.perf_counter()
        for plan in plans[WARM:]:
            self._session.run(plan)
        return rows * STEPS / (time.perf_counter() - started)

    def prefill(self, tokens: int) -> float:
        """Prompt tokens per second, in the chunks that the engine reads, the last one's logits computed."""
        started = time.perf_counter()
        self._read(0, tokens)
        return tokens / (time.perf_counter() - started)

    def close(self) -> None:
        """Release the model, so that another takes its place on a GPU."""
        self._session.close()

    @property
    def needs_companion(self) -> bool:
        """Whether this processor rounds a lone row otherwise than one of several."""
        return self._session.needs_companion

    def accompanied(self, context: int) -> float:
        """:meth:`decode` of one row with the companion that the law needs on some processors."""
        needed, self._session.needs_companion = self._session.needs_companion, True
        speed = self.decode(1, context)
        self._session.needs_companion = needed
        return speed

    def _step(self, rows: int, place: int) -> StepPlan:
        tokens = self._random.integers(_FIRST, _LAST, rows).tolist()
        return StepPlan((), tuple(Span(row, row, place, (tokens[row],), samples=True) for row in range(rows)), None)

    def _read(self, row: int, tokens: int) -> None:
        ids, size = self._random.integers(_FIRST, _LAST, tokens).tolist(), EngineConfig().prefill_tokens
        for start in range(0, tokens, size):
            part = tuple(ids[start : start + size])
            chunk = Span(0, row, start, part, samples=start + len(part) == tokens)
            self._session.run(StepPlan((), (), chunk))
