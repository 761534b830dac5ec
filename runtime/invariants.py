"""What must hold of a scheduler before, within and after a step: checked in tests and under ``--debug``.

The rules read an immutable snapshot, never the live scheduler, and need no model.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

from runtime.scheduler import Scheduler, StepPlan, Update
from runtime.sequence import Sequence


@dataclass(frozen=True, slots=True)
class SequenceView:
    """One sequence at one moment: counts of tokens."""

    id: int
    prompt_length: int
    length: int
    cached: int

    @classmethod
    def of(cls, sequence: Sequence) -> SequenceView:
        """What ``sequence`` holds now."""
        return cls(sequence.id, sequence.prompt_length, len(sequence.tokens), sequence.cached)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A scheduler at one moment. ``kept``: slot and tokens of each kept prompt."""

    rows: tuple[SequenceView, ...]
    reading: SequenceView | None
    waiting: tuple[SequenceView, ...]
    kept: tuple[tuple[int, int], ...]
    max_rows: int
    kv_tokens: int

    @classmethod
    def of(cls, scheduler: Scheduler) -> Snapshot:
        """What ``scheduler`` holds now; on its own thread."""
        return cls(
            rows=tuple(map(SequenceView.of, scheduler.rows)),
            reading=None if scheduler.reading is None else SequenceView.of(scheduler.reading),
            waiting=tuple(map(SequenceView.of, scheduler.waiting)),
            kept=tuple((prefix.slot, len(prefix.tokens)) for prefix in scheduler.prefixes),
            max_rows=scheduler.max_rows,
            kv_tokens=scheduler.kv_tokens,
        )

    @property
    def running(self) -> tuple[SequenceView, ...]:
        """The sequences that hold a row's slot, in the order of the slots."""
        return self.rows if self.reading is None else (*self.rows, self.reading)

    @property
    def ids(self) -> list[int]:
        """Every sequence, once for each place it is in."""
        return [sequence.id for sequence in (*self.running, *self.waiting)]


def check_snapshot(now: Snapshot) -> None:
    """Raise ``AssertionError`` with the first rule that is broken between two steps."""
    _require(len(now.ids) == len(set(now.ids)), f"a sequence is in two places: {now.ids}")
    _require(len(now.running) <= now.max_rows, "more rows than slots")
    for row in now.rows:
        _require(row.prompt_length <= row.cached < row.length, f"row {row.id} holds {row.cached} of {row.length}")
    if now.reading is not None:
        _require(now.reading.cached < now.reading.prompt_length, f"sequence {now.reading.id} has nothing to read")
    held = sum(row.cached for row in now.running)
    _require(held <= now.kv_tokens, f"{held} tokens cached, {now.kv_tokens} allowed")
    slots = [slot for slot, _ in now.kept]
    _require(len(slots) == len(set(slots)), "two kept prompts share a slot")
    _require(all(slot >= now.max_rows for slot in slots), "a kept prompt lies in a row's slot")
    for waiting in now.waiting:
        _require(waiting.cached == 0, f"sequence {waiting.id} waits with a cache")


def check_plan(now: Snapshot, plan: StepPlan) -> None:
    """Raise ``AssertionError`` unless ``plan`` runs every row once, from where its cache ends, within the budget."""
    check_snapshot(now)
    _require([span.sequence for span in plan.decode] == [row.id for row in now.rows], "a row doesn't decode")
    _require([span.slot for span in plan.spans] == list(range(len(plan.spans))), "the slots have a gap")
    _require((plan.chunk is None) == (now.reading is None), "a prompt waits to be read")
    held = {row.id: row.cached for row in now.running}
    for span in plan.spans:
        _require(held.get(span.sequence) == span.start, f"span of {span.sequence} doesn't start where its cache ends")
        _require(len(span.tokens) > span.drafted, f"span of {span.sequence} has no token of its own")
    written = sum(span.start + len(span.tokens) for span in plan.spans)
    kept = sum(tokens for _, tokens in now.kept)
    _require(written + kept <= now.kv_tokens, f"{written} tokens and {kept} kept ones, {now.kv_tokens} allowed")


def check_commit(before: Snapshot, updates: Items[Update], after: Snapshot) -> None:
    """Raise ``AssertionError`` unless what finished, and nothing else, is gone, and nobody overtook in the queue."""
    check_snapshot(after)
    finished = {update.sequence for update in updates if update.finished}
    _require(set(after.ids) == set(before.ids) - finished, f"a sequence was lost, or {finished} not freed")
    _require(after.waiting == before.waiting, "the queue changed while a step ran")


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)
