"""What must hold of a scheduler between any two steps; checked in tests after every one."""

from __future__ import annotations

from runtime.scheduler import Scheduler, StepPlan


def check_scheduler(scheduler: Scheduler) -> None:
    """Raise ``AssertionError`` with the first rule that is broken."""
    ids = [sequence.id for sequence in scheduler]
    _require(len(ids) == len(set(ids)), f"a sequence is in two places: {ids}")
    _require(len(scheduler.rows) <= scheduler.max_rows, "more rows than slots")
    for row in scheduler.rows:
        _require(row.prompt_length <= row.cached < len(row.tokens), f"row {row.id} holds {row.cached} tokens")
    held = sum(row.cached for row in scheduler.rows)
    if scheduler.reading is not None:
        reading = scheduler.reading
        _require(len(scheduler.rows) < scheduler.max_rows, "the prompt being read has no slot")
        _require(reading.cached < reading.prompt_length, f"sequence {reading.id} has nothing left to read")
        held += reading.cached
    _require(held <= scheduler.kv_tokens, f"{held} tokens cached, {scheduler.kv_tokens} allowed")
    slots = [prefix.slot for prefix in scheduler.prefixes]
    _require(len(slots) == len(set(slots)), "two kept prompts share a slot")
    _require(all(slot >= scheduler.max_rows for slot in slots), "a kept prompt lies in a row's slot")
    for waiting in scheduler.waiting:
        _require(waiting.cached == 0, f"sequence {waiting.id} waits with a cache")


def check_plan(scheduler: Scheduler, plan: StepPlan) -> None:
    """Raise ``AssertionError`` unless ``plan`` runs every row once, from where its cache ends."""
    _require([span.slot for span in plan.decode] == list(range(len(plan.decode))), "decode slots have a gap")
    _require(len({span.sequence for span in plan.spans}) == len(plan.spans), "a sequence runs twice")
    held = {sequence.id: sequence for sequence in scheduler}
    for span in plan.spans:
        _require(span.start == held[span.sequence].cached, f"span of {span.sequence} skips tokens")
    if plan.chunk is not None:
        _require(plan.chunk.slot == len(plan.decode), "the chunk's slot isn't behind the rows")


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)
