"""One loaded model shared by many requests: a thread that plans, runs, samples and commits, step after step.

Async code meets the thread at :meth:`Engine.submit` and :meth:`Generation.abort` alone. Tokens in, tokens out: the
engine knows neither text nor templates nor any API.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.adapter import Adapter
from runtime.config import EngineConfig, SamplingParams
from runtime.device import memory_share
from runtime.engine_thread import EngineThread
from runtime.errors import ContextTooLong, EngineFailed, LoraUnsupported, Overloaded
from runtime.invariants import Snapshot, check_commit, check_plan
from runtime.progress import Progress
from runtime.sampling import Constraint, Sampled, Sampler, Scores, sample, sample_along
from runtime.scheduler import Scheduler, StepPlan, Update
from runtime.sequence import FinishReason, Sequence
from runtime.speculation import PromptLookup

_KV_SHARE = 0.25  # of the memory that this process may use
_SOURCES = re.compile(r"/\S*onnxruntime\S*:\d+ .*?\) (?=[A-Z])")
_log = logging.getLogger(__name__)


class Executor(Protocol):
    """What runs a plan: a session over a decoder and its KV cache."""

    @property
    def capacity(self) -> int:
        """The longest sequence that a row holds, in tokens."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache that one token takes."""

    @property
    def takes_adapters(self) -> bool:
        """Whether rows may have LoRA adapters of their own."""

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        """Execute the moves and spans; logits float32 [sum of ``wanted`` over plan.sampled, vocab]."""

    def close(self) -> None:
        """Release the model and its cache."""


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """One generated token; ``finished`` says why it was the last."""

    id: int
    finished: FinishReason | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What an engine is doing: counts of requests, of cached and kept tokens, and totals since it started.

    ``kv_tokens``: how many the cache may hold. ``drafted`` and ``accepted`` count tokens of speculation. ``batches``:
    how many steps took how many requests, by that number. Encoders have no cache and write no tokens.
    """

    running: int
    waiting: int
    steps: int
    batches: tuple[int, ...]
    cached_tokens: int = 0
    kept_tokens: int = 0
    kv_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    drafted: int = 0
    accepted: int = 0


class Generation:
    """A submitted request: an async iterator of its tokens. Leaving the iteration early aborts it."""

    def __init__(self, engine: Engine, sequence: Sequence, progress: Progress) -> None:
        self._engine = engine
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._arrivals: asyncio.Queue[GeneratedToken | Exception] = asyncio.Queue()
        self._sequence = sequence

    @property
    def cached_tokens(self) -> int:
        """How many of the prompt's tokens were kept from an earlier prompt; known from the first token on."""
        return self._sequence.reused

    async def __aiter__(self) -> AsyncGenerator[GeneratedToken]:
        """Tokens as they come, the last one with its reason; raises :class:`EngineFailed` if a step failed."""
        try:
            while True:
                arrival = await self._arrivals.get()
                if isinstance(arrival, Exception):
                    raise arrival
                yield arrival
                if arrival.finished:
                    return
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop computing at the next step, in whatever state the request is. Idempotent, from any thread."""
        self._engine._abort(self._sequence.id)

    def _take(self) -> None:
        self._progress.take()

    def _deliver(self, arrival: GeneratedToken | Exception) -> None:
        """Called on the engine's thread. A loop that was closed took its reader with it."""
        if isinstance(arrival, GeneratedToken):
            self._progress.generated_tokens += 1
        try:
            self._loop.call_soon_threadsafe(self._arrivals.put_nowait, arrival)
        except RuntimeError:
            self.abort()


@dataclass(slots=True)
class _Running:
    sampler: Sampler
    generation: Generation


class Engine(EngineThread):
    """Continuous batching over one executor. Threads: its own, and any number of callers."""

    def __init__(self, executor: Executor, config: EngineConfig | None = None) -> None:
        super().__init__("roost-engine")
        config = config or EngineConfig()
        kv_bytes = config.kv_bytes if config.kv_bytes is not None else memory_share(_KV_SHARE)
        kv_tokens = max(executor.capacity, kv_bytes // executor.kv_bytes_per_token)
        self.capacity = executor.capacity
        self._executor = executor
        self._max_waiting = config.rows + config.waiting
        self._scheduler = Scheduler(
            rows=config.rows,
            chunk_tokens=config.chunk_tokens,
            prefill_tokens=config.prefill_tokens,
            kv_tokens=kv_tokens,
            kept_prompts=config.kept_prompts,
            deterministic=config.deterministic,
            grid=config.grid,
        )
        self._deterministic = config.deterministic
        self._debug = config.debug
        self._ids = itertools.count(1)
        self._running: dict[int, _Running] = {}
        self._steps = 0
        self._generated = 0
        self._batches = [0] * (config.rows + 2)  # the rows, and the prompt that is read beside them
        # Guarded by the condition: what callers leave for the thread.
        self._submitted: list[Sequence] = []
        self._aborted: list[int] = []
        self._thread.start()

    def submit(
        self,
        tokens: list[int],
        *,
        max_tokens: int,
        stop_tokens: frozenset[int] = frozenset(),
        sampling: SamplingParams | None = None,
        constraint: Constraint | None = None,
        adapter: Adapter | None = None,
        progress: Progress | None = None,
    ) -> Generation:
        """Queue ``tokens`` for generation; call it on the event loop that will read the answer.

        ``progress`` hears how far it comes. Raises :class:`ContextTooLong` past the engine's capacity,
        :class:`Overloaded` where the queue is full, :class:`LoraUnsupported` for an ``adapter`` that the model can't
        take, :class:`EngineFailed` once closed.
        """
        if adapter is not None and not self.takes_adapters:
            raise LoraUnsupported("The model does not support LoRa inference")
        if len(tokens) + max_tokens > self.capacity:
            raise ContextTooLong(len(tokens) + max_tokens, self.capacity)
        lookup = None if self._deterministic else PromptLookup(tokens)
        sequence = Sequence(next(self._ids), list(tokens), len(tokens), max_tokens, stop_tokens, adapter, lookup=lookup)
        progress = progress or Progress()
        generation = Generation(self, sequence, progress)
        running = _Running(Sampler(sampling or SamplingParams(), tokens, constraint), generation)
        with self._wake:
            if not self._open:
                raise EngineFailed("the engine is closed")
            if len(self._running) - len(self._running.keys() & self._aborted) >= self._max_waiting:
                raise Overloaded("the engine's queue is full")
            progress.queue(len(tokens))
            self._running[sequence.id] = running
            self._submitted.append(sequence)
            self._wake.notify()
        return generation

    @property
    def takes_adapters(self) -> bool:
        """Whether requests may have LoRA adapters."""
        return self._executor.takes_adapters

    def stats(self) -> EngineStats:
        """A snapshot, taken without stopping the engine; counts may be a step old."""
        rows, reading = list(self._scheduler.rows), self._scheduler.reading
        active = [*rows, reading] if reading is not None else rows
        return EngineStats(
            running=len(active),
            waiting=max(0, len(self._running) - len(active)),
            cached_tokens=sum(row.cached for row in active),
            kept_tokens=self._scheduler.prefixes.tokens,
            kv_tokens=self._scheduler.kv_tokens,
            steps=self._steps,
            generated_tokens=self._generated,
            preemptions=self._scheduler.preemptions,
            drafted=self._scheduler.drafted,
            accepted=self._scheduler.accepted,
            batches=tuple(self._batches),
        )

    def _abort(self, sequence_id: int) -> None:
        with self._wake:
            if sequence_id in self._running:
                self._aborted.append(sequence_id)
                self._wake.notify()

    def _work(self) -> None:
        error = EngineFailed("the engine was closed before the answer ended")
        try:
            while self._receive():
                if not self._scheduler.idle:
                    self._step()
        except Exception as defect:  # whoever waits must hear of it
            _log.exception("the engine broke")
            error = EngineFailed(f"the engine broke: {defect}")
        with self._wake:
            self._open = False
        self._fail_all(error)
        self._executor.close()

    def _receive(self) -> bool:
        """Take in what callers left, sleeping while there is nothing to do; False once closed."""
        with self._wake:
            self._wake.wait_for(self._has_news)
            submitted, self._submitted = self._submitted, []
            aborted, self._aborted = self._aborted, []
            for sequence_id in aborted:
                self._running.pop(sequence_id, None)
        for sequence in submitted:
            self._scheduler.add(sequence)
        for sequence_id in aborted:
            self._scheduler.remove(sequence_id)
        return self._open

    def _has_news(self) -> bool:
        return bool(self._submitted or self._aborted or not self._open or not self._scheduler.idle)

    def _step(self) -> None:
        plan = self._scheduler.plan()
        before = self._inspect(plan)
        for span in plan.spans:
            self._running[span.sequence].generation._take()
        try:
            logits = self._executor.run(plan)
            sampled = self._sample(plan, logits)
        except Exception as error:
            _log.exception("a step failed")
            self._fail(plan, EngineFailed(f"the model failed: {_in_a_line(error)}"))
            return
        faults = {sequence: chain[-1] for sequence, chain in sampled.items() if isinstance(chain[-1], Exception)}
        told = {sequence: [one for one in chain if isinstance(one, Sampled)] for sequence, chain in sampled.items()}
        # A sequence whose sampling raised is given any token, and leaves before somebody reads it.
        tokens = {sequence: [one.token for one in chain] or [0] for sequence, chain in told.items()}
        updates = self._scheduler.commit(plan, tokens)
        self._steps += 1
        self._batches[len(plan.spans)] += 1
        self._generated += len(updates)  # whoever has a token finds it counted
        if before is not None:
            check_commit(before, updates, Snapshot.of(self._scheduler))
        arrivals = {sequence: iter(chain) for sequence, chain in told.items()}
        for update in updates:
            if update.sequence not in faults:
                self._tell(update, next(arrivals[update.sequence]))
        for sequence, fault in faults.items():
            _log.error("sampling for one request failed", exc_info=fault)
            self._scheduler.remove(sequence)
            self._forget(sequence).generation._deliver(EngineFailed(f"sampling failed: {fault}"))

    def _inspect(self, plan: StepPlan) -> Snapshot | None:
        """Check ``plan`` and what it will be checked against afterwards, where debugging."""
        if not self._debug:
            return None
        before = Snapshot.of(self._scheduler)
        check_plan(before, plan)
        return before

    def _sample(self, plan: StepPlan, logits: Scores) -> dict[int, list[Sampled | Exception]]:
        """What each asking sequence samples: all in one batch, or along its draft."""
        samplers = [self._running[span.sequence].sampler for span in plan.sampled]
        if not any(span.drafted for span in plan.sampled):
            chosen = sample(samplers, logits) if samplers else []
            return {span.sequence: [token] for span, token in zip(plan.sampled, chosen, strict=True)}
        sampled: dict[int, list[Sampled | Exception]] = {}
        row = 0
        for span, sampler in zip(plan.sampled, samplers, strict=True):
            sampled[span.sequence] = sample_along(sampler, span.drafts, logits[row : row + span.wanted])
            row += span.wanted
        return sampled

    def _tell(self, update: Update, chosen: Sampled) -> None:
        running = self._running[update.sequence]
        if update.finished:
            self._forget(update.sequence)
        running.generation._deliver(GeneratedToken(chosen.token, update.finished, chosen.logprob, chosen.top))

    def _fail(self, plan: StepPlan, error: EngineFailed) -> None:
        """End the requests of a step that raised; those that wait are not touched."""
        self._scheduler.fail(plan)
        for span in plan.spans:
            self._forget(span.sequence).generation._deliver(error)

    def _fail_all(self, error: EngineFailed) -> None:
        for sequence_id in list(self._running):
            self._scheduler.remove(sequence_id)
            self._forget(sequence_id).generation._deliver(error)

    def _forget(self, sequence_id: int) -> _Running:
        with self._wake:
            return self._running.pop(sequence_id)


def _in_a_line(error: Exception) -> str:
    """ONNX Runtime's words without the places in its sources, which stand before them."""
    return " ".join(_SOURCES.sub("", str(error)).split())
