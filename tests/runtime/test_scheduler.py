"""The scheduler against a cache kept in plain lists: whatever it plans, every slot holds what it should."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.invariants import check_plan, check_scheduler
from runtime.scheduler import Release, Scheduler, StepPlan
from runtime.sequence import Sequence

KV_TOKENS = 40


@dataclass
class Simulation:
    """Runs plans over ``cache``, slot by slot; the model's next token is the length of what it has read."""

    scheduler: Scheduler
    cache: dict[int, list[int]] = field(default_factory=dict)
    finished: dict[int, list[int]] = field(default_factory=dict)

    def step(self) -> None:
        plan = self.scheduler.plan()
        check_scheduler(self.scheduler)
        check_plan(self.scheduler, plan)
        self._run(plan)
        sampled = {span.sequence: span.start + len(span.tokens) for span in plan.sampled}
        known = {sequence.id: sequence for sequence in self.scheduler}
        for update in self.scheduler.commit(plan, sampled):
            if update.finished:
                self.finished[update.sequence] = known[update.sequence].tokens
        if not self.scheduler.idle:
            check_scheduler(self.scheduler)

    def _run(self, plan: StepPlan) -> None:
        tokens = {sequence.id: sequence.tokens for sequence in self.scheduler}
        for op in plan.cache_ops:
            if isinstance(op, Release):
                self.cache.pop(op.slot, None)
            elif op.length:
                held = self.cache.get(op.target, [])[: op.start]
                self.cache[op.target] = held + self.cache[op.source][op.start : op.length]
        for prefix in self.scheduler.prefixes:
            assert self.cache[prefix.slot] == list(prefix.tokens), "a kept prompt's slot holds something else"
        for span in plan.spans:
            held = self.cache.get(span.slot, [])[: span.start] + list(span.tokens)
            assert held == tokens[span.sequence][: len(held)], "a slot holds another sequence's tokens"
            self.cache[span.slot] = held


requests = st.lists(
    st.tuples(st.integers(1, 25), st.integers(1, 15), st.integers(0, 12), st.none() | st.integers(0, 20)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(requests, st.integers(1, 5), st.integers(1, 9), st.integers(0, 3))
def test_every_slot_holds_its_own_sequence(
    asked: list[tuple[int, int, int, int | None]], rows: int, chunk: int, kept: int
) -> None:
    scheduler = Scheduler(
        rows=rows, chunk_tokens=chunk, prefill_tokens=2 * chunk, kv_tokens=KV_TOKENS, kept_prompts=kept
    )
    simulation = Simulation(scheduler)
    sequences = [
        Sequence(id_, [100 * (id_ % 3) + place for place in range(prompt)], prompt, count, frozenset())
        for id_, (prompt, count, _, _) in enumerate(asked, 1)
    ]
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
        assert generated == list(range(prompt, prompt + sequence.max_tokens))


def test_a_last_token_is_never_read_alone() -> None:
    scheduler = Scheduler(rows=1, chunk_tokens=4, prefill_tokens=4, kv_tokens=KV_TOKENS)
    scheduler.add(Sequence(1, list(range(9)), 9, 1, frozenset()))
    lengths = []
    while not scheduler.idle:
        plan = scheduler.plan()
        lengths.append(len(plan.chunk.tokens) if plan.chunk else 0)
        scheduler.commit(plan, {span.sequence: 0 for span in plan.sampled})
    assert lengths == [4, 5]
