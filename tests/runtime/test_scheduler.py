"""The scheduler against a cache kept in plain lists: whatever it plans, every slot holds what it should."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.invariants import Snapshot, check_commit, check_plan, check_snapshot
from runtime.scheduler import Release, Scheduler, Span, StepPlan
from runtime.sequence import Sequence
from runtime.speculation import PromptLookup

KV_TOKENS = 40
CYCLE = 5


@dataclass
class Simulation:
    """Runs plans over ``cache``, slot by slot; the next token is the length of what was read, modulo a cycle."""

    scheduler: Scheduler
    cache: dict[int, list[int]] = field(default_factory=dict)
    finished: dict[int, list[int]] = field(default_factory=dict)

    def step(self) -> None:
        plan = self.scheduler.plan()
        before = Snapshot.of(self.scheduler)
        check_plan(before, plan)
        self._run(plan)
        known = {sequence.id: sequence for sequence in self.scheduler}
        updates = self.scheduler.commit(plan, {span.sequence: sampled(span) for span in plan.sampled})
        check_commit(before, updates, Snapshot.of(self.scheduler))
        for update in updates:
            if update.finished:
                self.finished[update.sequence] = known[update.sequence].tokens

    def _run(self, plan: StepPlan) -> None:
        tokens = {sequence.id: sequence.tokens for sequence in self.scheduler}
        for op in plan.cache_ops:
            if isinstance(op, Release):
                self.cache[op.slot] = self.cache.get(op.slot, [])[: op.start]
            elif op.length:
                held = self.cache.get(op.target, [])[: op.start]
                self.cache[op.target] = held + self.cache[op.source][op.start : op.length]
        for prefix in self.scheduler.prefixes:
            assert self.cache[prefix.slot] == list(prefix.tokens), "a kept prompt's slot holds something else"
        for span in plan.spans:
            held = self.cache.get(span.slot, [])[: span.start] + list(span.tokens)
            sure = len(held) - span.drafted
            assert held[:sure] == tokens[span.sequence][:sure], "a slot holds another sequence's tokens"
            self.cache[span.slot] = held
        assert sum(map(len, self.cache.values())) <= self.scheduler.kv_tokens, "a slot wasn't given back"


def sampled(span: Span) -> list[int]:
    """What follows the span, as far as it was drafted right, and one token more."""
    first = span.start + len(span.tokens) - span.drafted
    right = [(first + place) % CYCLE for place in range(span.drafted + 1)]
    wrong = (place for place, draft in enumerate(span.drafts) if draft != right[place])
    return right[: next(wrong, span.drafted) + 1]


requests = st.lists(
    st.tuples(st.integers(1, 25), st.integers(1, 15), st.integers(0, 12), st.none() | st.integers(0, 20)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(requests, st.integers(1, 5), st.integers(1, 9), st.integers(0, 3), st.booleans())
def test_every_slot_holds_its_own_sequence(
    asked: list[tuple[int, int, int, int | None]], rows: int, chunk: int, kept: int, deterministic: bool
) -> None:
    scheduler = Scheduler(
        rows=rows,
        chunk_tokens=chunk,
        prefill_tokens=2 * chunk,
        kv_tokens=KV_TOKENS,
        kept_prompts=kept,
        deterministic=deterministic,
    )
    simulation = Simulation(scheduler)
    sequences = [
        Sequence(id_, [100 * (id_ % 3) + place for place in range(prompt)], prompt, count, frozenset())
        for id_, (prompt, count, _, _) in enumerate(asked, 1)
    ]
    for sequence in sequences:
        sequence.lookup = None if deterministic else PromptLookup(sequence.tokens)
    aborted = set()
    for step in range(2000):
        for sequence, (_, _, arrival, leaving) in zip(sequences, asked, strict=True):
            if step == arrival:
                scheduler.add(sequence)
            if leaving is not None and step == arrival + leaving and scheduler.remove(sequence.id):
                aborted.add(sequence.id)
        if scheduler.idle and step > 12:
            break
        if not scheduler.idle:
            simulation.step()
    assert scheduler.idle, "some request never ends"
    expected = [sequence for sequence in sequences if sequence.id not in aborted]
    assert {sequence.id for sequence in expected} == simulation.finished.keys()
    for sequence in expected:
        prompt, generated = sequence.prompt_length, sequence.tokens[sequence.prompt_length :]
        assert generated == [place % CYCLE for place in range(prompt, prompt + sequence.max_tokens)]


def test_what_repeats_itself_is_drafted_unless_the_law_forbids_it() -> None:
    steps = {}
    for deterministic in (True, False):
        scheduler = Scheduler(rows=1, chunk_tokens=64, prefill_tokens=64, kv_tokens=200, deterministic=deterministic)
        prompt = [place % CYCLE for place in range(20)]
        sequence = Sequence(
            1, list(prompt), 20, 60, frozenset(), lookup=None if deterministic else PromptLookup(prompt)
        )
        scheduler.add(sequence)
        simulation, count = Simulation(scheduler), 0
        while not scheduler.idle:
            simulation.step()
            count += 1
        assert sequence.tokens == [place % CYCLE for place in range(80)]
        steps[deterministic] = count
    assert steps[True] == 60
    assert steps[False] < 20


def test_the_checker_finds_what_is_wrong() -> None:
    scheduler = Scheduler(rows=2, chunk_tokens=8, prefill_tokens=8, kv_tokens=KV_TOKENS)
    for id_ in (1, 2):
        scheduler.add(Sequence(id_, [1, 2, 3], 3, 4, frozenset()))
    plan = scheduler.plan()
    before = Snapshot.of(scheduler)
    check_plan(before, plan)
    with pytest.raises(AssertionError, match="a prompt waits to be read"):
        check_plan(before, replace(plan, chunk=None))
    updates = scheduler.commit(plan, {1: [5]})
    check_commit(before, updates, Snapshot.of(scheduler))
    with pytest.raises(AssertionError, match="not freed"):
        check_commit(before, [replace(updates[0], finished="stop")], Snapshot.of(scheduler))
    scheduler.rows[0].cached += 2
    with pytest.raises(AssertionError, match="row 1 holds 5 of 4"):
        check_snapshot(Snapshot.of(scheduler))
    with pytest.raises(AssertionError, match="doesn't start where its cache ends"):
        check_plan(before, replace(plan, chunk=replace(plan.spans[0], start=1)))


def test_a_last_token_is_never_read_alone() -> None:
    scheduler = Scheduler(rows=1, chunk_tokens=4, prefill_tokens=4, kv_tokens=KV_TOKENS)
    scheduler.add(Sequence(1, list(range(9)), 9, 1, frozenset()))
    lengths = []
    while not scheduler.idle:
        plan = scheduler.plan()
        lengths.append(len(plan.chunk.tokens) if plan.chunk else 0)
        scheduler.commit(plan, {span.sequence: [0] for span in plan.sampled})
    assert lengths == [4, 5]
