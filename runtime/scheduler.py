"""Decides what each step runs: which rows decode, which prompt is read, who waits, who yields. Plain data only.

A row is a slot of the KV cache. Decoding rows hold slots 0 to n-1; the one prompt being read holds slot n, so it
becomes row n without a copy. A step is one decode batch plus one chunk of that prompt, bounded so that streams keep
their pace. Waiting requests are admitted first come, first served; a prompt whose beginning is kept is read from there.
When the cache is full kept prompts go first, then the youngest row yields.

``deterministic``: a sequence's steps never depend on the others'. Without it answers are kept too, not only what
chunks wrote, and a row may verify drafted tokens, both of which round differently from plain decode steps.

``grid``: where a chunk's length changes its rounding, the length of every chunk. A prompt is cut at its multiples
whatever else runs, and only whole chunks are copied from another, so that the cache comes from the same chunks always.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import TypeAlias

from runtime.adapter import Adapter
from runtime.prefixes import WORTH_KEEPING, Prefix, PrefixCache
from runtime.sequence import FinishReason, Sequence
from runtime.speculation import MOST_ROWS


@dataclass(frozen=True, slots=True)
class Move:
    """Copy cached tokens ``start`` to ``length`` - 1 of slot ``source`` to the same places of slot ``target``."""

    source: int
    target: int
    length: int
    start: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """Nothing in ``slot`` from token ``start`` on is needed any more: its memory may go back."""

    slot: int
    start: int = 0


CacheOp: TypeAlias = Move | Release


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive ``tokens`` of one sequence, the first at position ``start``.

    ``samples``: the last token's logits are wanted. The last ``drafted`` tokens are guesses: the logits of each, and of
    the token before them, are wanted. ``adapter``: what changes the model for these tokens.
    """

    sequence: int
    slot: int
    start: int
    tokens: tuple[int, ...]
    samples: bool
    drafted: int = 0
    adapter: Adapter | None = None

    @property
    def wanted(self) -> int:
        """How many of its last tokens' logits are wanted."""
        return 1 + self.drafted if self.samples else 0

    @property
    def drafts(self) -> tuple[int, ...]:
        """The guessed tokens."""
        return self.tokens[len(self.tokens) - self.drafted :]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: first the cache operations in order, then the decode batch, then the chunk."""

    cache_ops: tuple[CacheOp, ...]
    decode: tuple[Span, ...]
    chunk: Span | None

    @property
    def spans(self) -> tuple[Span, ...]:
        """All spans, in the order in which they run."""
        return self.decode if self.chunk is None else (*self.decode, self.chunk)

    @property
    def sampled(self) -> tuple[Span, ...]:
        """The spans whose logits are wanted, in the order of the logits' rows: ``wanted`` rows each."""
        return tuple(span for span in self.spans if span.samples)


@dataclass(frozen=True, slots=True)
class Update:
    """What a step brought to one sequence."""

    sequence: int
    token: int
    finished: FinishReason | None


class Scheduler:
    """Requests waiting, one prompt being read, rows decoding, and prompts kept for those to come."""

    def __init__(
        self,
        *,
        rows: int,
        chunk_tokens: int,
        prefill_tokens: int,
        kv_tokens: int,
        kept_prompts: int = 0,
        deterministic: bool = True,
        grid: int | None = None,
    ) -> None:
        self.max_rows = rows
        self._grid = grid
        chunk_tokens, prefill_tokens = (grid, grid) if grid else (chunk_tokens, prefill_tokens)
        self.kv_tokens = kv_tokens
        self._chunk_tokens = chunk_tokens
        self._prefill_tokens = prefill_tokens
        self._deterministic = deterministic
        self.waiting: deque[Sequence] = deque()
        self.reading: Sequence | None = None
        self.rows: list[Sequence] = []
        self.prefixes = PrefixCache(range(rows, rows + kept_prompts))
        self.preemptions = 0
        self.drafted = 0
        self.accepted = 0
        self._cache_ops: list[CacheOp] = []

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Its prompt and ``max_tokens`` together must fit into ``kv_tokens``."""
        self.waiting.append(sequence)

    def remove(self, sequence_id: int) -> bool:
        """Drop a sequence in whatever state it is; whether it was there."""
        for index, row in enumerate(self.rows):
            if row.id == sequence_id:
                self._vacate(index)
                return True
        if self.reading is not None and self.reading.id == sequence_id:
            self._stop_reading(keep=True)
            return True
        kept = deque(waiting for waiting in self.waiting if waiting.id != sequence_id)
        found, self.waiting = len(kept) < len(self.waiting), kept
        return found

    def fail(self, plan: StepPlan) -> None:
        """Drop the sequences of a step that raised. No slot can be trusted any more: its copies may not have run."""
        self.rows, self.reading = [], None
        slots = [span.slot for span in plan.spans]
        while (slot := self.prefixes.evict()) is not None:
            slots.append(slot)
        self._cache_ops += map(Release, slots)

    def __iter__(self) -> Iterator[Sequence]:
        """Every sequence: rows, the one being read, those that wait."""
        yield from self.rows
        if self.reading is not None:
            yield self.reading
        yield from self.waiting

    @property
    def idle(self) -> bool:
        """Whether there is nothing to run."""
        return not self.rows and self.reading is None and not self.waiting

    def plan(self) -> StepPlan:
        """The next step. Only valid while not :attr:`idle`; every plan must be committed before the next."""
        self._yield_rows()
        self._admit()
        self._evict()
        cache_ops, self._cache_ops = tuple(self._cache_ops), []
        decode = tuple(self._decode_span(slot, row) for slot, row in enumerate(self.rows))
        return StepPlan(cache_ops, decode, self._chunk())

    def commit(self, plan: StepPlan, tokens: Mapping[int, Items[int]]) -> list[Update]:
        """Record a step that ran: ``tokens`` has what each sequence in ``plan.sampled`` sampled, in order.

        That is one token, or with drafts those that were accepted and the one behind them.
        """
        for row, span in zip(self.rows, plan.decode, strict=True):
            row.cached += len(tokens[row.id]) if span.samples else 1
            self._learn(row, span, tokens)
        self._advance_reading(plan.chunk)
        return [update for span in plan.sampled for update in self._record(span.sequence, tokens[span.sequence])]

    def _decode_span(self, slot: int, row: Sequence) -> Span:
        token = row.tokens[row.cached]
        if row.cached + 1 < len(row.tokens):  # replaying after a preemption: the next token is decided
            return Span(row.id, slot, row.cached, (token,), samples=False, adapter=row.adapter)
        drafts = row.draft(len(self.rows), self._room())
        return Span(row.id, slot, row.cached, (token, *drafts), samples=True, drafted=len(drafts), adapter=row.adapter)

    def _room(self) -> int:
        """Cache tokens that each of a few rows may fill with drafts."""
        return (self.kv_tokens - self._rows_want() - self.prefixes.tokens) // MOST_ROWS

    def _learn(self, row: Sequence, span: Span, tokens: Mapping[int, Items[int]]) -> None:
        if span.drafted and row.lookup is not None:
            accepted = len(tokens[row.id]) - 1
            row.lookup.learn(span.drafted, accepted)
            self.drafted += span.drafted
            self.accepted += accepted

    def _chunk(self) -> Span | None:
        row = self.reading
        if row is None:
            return None
        budget = self._chunk_tokens if self.rows else self._prefill_tokens
        left = row.prompt_length - row.cached
        # A last token on its own would take kernels for a single row, whose rounding differs: it joins.
        size = left if left <= budget + 1 else budget
        end = row.cached + size
        samples = end == row.prompt_length == len(row.tokens)
        tokens = tuple(row.tokens[row.cached : end])
        return Span(row.id, len(self.rows), row.cached, tokens, samples, adapter=row.adapter)

    def _advance_reading(self, chunk: Span | None) -> None:
        if chunk is None or self.reading is None:
            return
        self.reading.cached += len(chunk.tokens)
        if not self.reading.reads_prompt:
            self.rows.append(self.reading)
            self.reading = None

    def _record(self, sequence_id: int, tokens: Items[int]) -> Iterator[Update]:
        index = next(i for i, row in enumerate(self.rows) if row.id == sequence_id)
        for token in tokens:
            finished = self.rows[index].append(token)
            yield Update(sequence_id, token, finished)
            if finished:
                self._vacate(index)
                return

    def _admit(self) -> None:
        if self.reading is not None or not self.waiting or len(self.rows) == self.max_rows:
            return
        if len(self.waiting[0].tokens) + 1 <= self.kv_tokens - self._rows_want():
            self.reading = self.waiting.popleft()
            self._reuse(self.reading)

    def _reuse(self, sequence: Sequence) -> None:
        """Copy what a kept or running prompt shares with this one's beginning, but for its last two tokens."""
        source, length = self._longest_source(sequence)
        length = min(length, self._whole_chunks(sequence) if self._grid else sequence.prompt_length - 2)
        length -= length % (self._grid or 1)
        if length >= WORTH_KEEPING:
            self._cache_ops.append(Move(source, len(self.rows), length))
            sequence.cached = length
            sequence.reused = sequence.reused or length

    def _longest_source(self, sequence: Sequence) -> tuple[int, int]:
        prefixes = [Prefix(row.prefix_key, self._reusable(row), slot) for slot, row in enumerate(self.rows)]
        if kept := self.prefixes.longest(sequence.prefix_key, sequence.tokens):
            prefixes.append(kept)
        shared = [(prefix.slot, prefix.shared(sequence.prefix_key, sequence.tokens)) for prefix in prefixes]
        return max(shared, key=lambda found: found[1], default=(0, 0))

    def _reusable(self, row: Sequence) -> tuple[int, ...]:
        """The tokens whose cache another sequence may have."""
        if self._grid:
            return tuple(row.tokens[: min(row.cached, self._whole_chunks(row))])
        return tuple(row.tokens[: min(row.cached, row.prompt_length) if self._deterministic else row.cached])

    def _whole_chunks(self, row: Sequence) -> int:
        """The tokens of a prompt's chunks but for the last, which may be longer by one, or shorter."""
        assert self._grid
        return max(0, row.prompt_length - 2) // self._grid * self._grid

    def _keep(self, sequence: Sequence, slot: int) -> None:
        """Keep what was read and may be used again, before its slot is given to another."""
        tokens = self._reusable(sequence)
        fits = WORTH_KEEPING <= len(tokens) <= self.kv_tokens - self._rows_want()
        if fits and (place := self.prefixes.keep(sequence.prefix_key, tokens)):
            target, held = place
            self._cache_ops += [Move(slot, target, len(tokens), held), Release(target, len(tokens))]

    def _yield_rows(self) -> None:
        """Preempt the youngest, back to the head of the queue, until the next step's tokens fit."""
        while self._rows_want() > self.kv_tokens:
            if self.reading is not None:
                youngest = self._stop_reading(keep=False)
            else:
                youngest = max(self.rows, key=lambda row: row.id)
                self._vacate(self.rows.index(youngest), keep=False)
            youngest.preempt()
            self.waiting.appendleft(youngest)
            self.preemptions += 1

    def _evict(self) -> None:
        """Give up kept prompts until the rows have the cache they want."""
        while self._rows_want() + self.prefixes.tokens > self.kv_tokens:
            slot = self.prefixes.evict()
            if slot is None:
                return
            self._cache_ops.append(Release(slot))

    def _rows_want(self) -> int:
        """Cache tokens of rows after the next step: one that decodes needs one more than it holds."""
        wanted = sum(max(row.cached + 1, len(row.tokens)) for row in self.rows)
        return wanted + (len(self.reading.tokens) if self.reading is not None else 0)

    def _vacate(self, index: int, *, keep: bool = True) -> None:
        """Free a row: the last row takes its slot, and the prompt being read moves up behind the rows."""
        leaving, last = self.rows[index], len(self.rows) - 1
        self.rows[index] = self.rows[last]
        self.rows.pop()
        if keep:
            self._keep(leaving, index)
        if index != last:
            self._move(last, index, self.rows[index].cached)
        if self.reading is not None:
            self._move(last + 1, last, self.reading.cached)
        self._cache_ops.append(Release(last if self.reading is None else last + 1))

    def _move(self, source: int, target: int, length: int) -> None:
        """Copy a slot; what the target held beyond it is given back."""
        self._cache_ops += [Move(source, target, length), Release(target, length)]

    def _stop_reading(self, *, keep: bool) -> Sequence:
        """Take the prompt that is being read out of its slot."""
        assert self.reading is not None
        stopped, self.reading = self.reading, None
        if keep:
            self._keep(stopped, len(self.rows))
        self._cache_ops.append(Release(len(self.rows)))
        return stopped
