"""The engine's laws, proven on a decoder whose every token depends on the whole cache."""

import asyncio
import random
import threading
from collections.abc import Sequence
from contextlib import aclosing
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.config import SamplingParams
from runtime.engine import Engine, Generation
from runtime.errors import ContextTooLong, EngineFailed, Overloaded
from runtime.scheduler import StepPlan
from tests.models.arithmetic import VOCAB, continuation
from tests.runtime.conftest import CAPACITY, StartEngine, WatchedExecutor

GREEDY = SamplingParams(temperature=0)
Visit: TypeAlias = tuple[list[int], int, int, frozenset[int], int | None, float]


def prompts(count: int, seed: int = 1) -> list[list[int]]:
    choose = random.Random(seed)
    return [[choose.randrange(VOCAB) for _ in range(choose.randint(1, 40))] for _ in range(count)]


def submit(engine: Engine, prompt: Sequence[int], count: int = 20, **options: object) -> Generation:
    return engine.submit(list(prompt), max_tokens=count, sampling=GREEDY, **options)  # type: ignore[arg-type]


async def read(generation: Generation) -> list[int]:
    return [token.id async for token in generation]


async def drained(engine: Engine) -> None:
    """Wait until no row is held; the test's own timeout is the limit."""
    while engine.stats().running or engine.stats().waiting:
        await asyncio.sleep(0.001)


async def test_alone_matches_the_closed_form(start_engine: StartEngine) -> None:
    engine = start_engine()
    for prompt in prompts(6):
        assert await read(submit(engine, prompt)) == continuation(prompt, 20)


async def test_batch_matches_single(start_engine: StartEngine) -> None:
    engine = start_engine(rows=8)
    asked = prompts(24)
    answers = await asyncio.gather(*(read(submit(engine, prompt)) for prompt in asked))
    assert answers == [continuation(prompt, 20) for prompt in asked]


async def test_staggered_admission_disturbs_nobody(start_engine: StartEngine) -> None:
    engine = start_engine(rows=6)
    asked, running = prompts(12), []
    for prompt in asked:
        running.append(asyncio.create_task(read(submit(engine, prompt, 40))))
        await asyncio.sleep(0.002)
    assert await asyncio.gather(*running) == [continuation(prompt, 40) for prompt in asked]


async def test_a_repeated_beginning_is_copied_and_changes_nothing(start_engine: StartEngine) -> None:
    engine = start_engine(rows=2, kept_prompts=2)
    system = [choice for prompt in prompts(4, seed=21) for choice in prompt][:60]
    first = submit(engine, [*system, 1, 2, 3])
    assert await read(first) == continuation([*system, 1, 2, 3], 20)
    assert first.cached_tokens == 0
    for tail in prompts(6, seed=22):
        again = submit(engine, [*system, *tail])
        assert await read(again) == continuation([*system, *tail], 20)
        assert again.cached_tokens >= min(60, 60 + len(tail) - 2)


async def test_a_running_prompt_is_copied_too(start_engine: StartEngine) -> None:
    engine = start_engine(rows=2)
    running = asyncio.create_task(read(submit(engine, [5] * 40, 60)))
    while not engine.stats().generated_tokens:
        await asyncio.sleep(0.001)
    again = submit(engine, [5] * 30 + [6] * 10)
    assert await read(again) == continuation([5] * 30 + [6] * 10, 20)
    assert again.cached_tokens == 30
    assert await running == continuation([5] * 40, 60)


async def test_kept_prompts_stay_within_the_budget(start_engine: StartEngine) -> None:
    engine = start_engine(rows=2, kv_tokens=CAPACITY, kept_prompts=8)
    kept = []
    for prompt in prompts(30, seed=31):
        assert await read(submit(engine, prompt, 10)) == continuation(prompt, 10)
        kept.append(engine.stats().kept_tokens)
    assert CAPACITY // 2 < max(kept) <= CAPACITY


@pytest.mark.parametrize(("chunk", "prefill"), [(2, 2), (3, 5), (8, 64), (64, 64)])
async def test_chunking_changes_nothing(start_engine: StartEngine, chunk: int, prefill: int) -> None:
    engine = start_engine(chunk_tokens=chunk, prefill_tokens=prefill)
    asked = [[5] * 33, *prompts(5)]
    answers = await asyncio.gather(*(read(submit(engine, prompt)) for prompt in asked))
    assert answers == [continuation(prompt, 20) for prompt in asked]


async def test_rows_of_unequal_length_end_and_are_refilled(start_engine: StartEngine) -> None:
    engine = start_engine(rows=3)
    asked = [(prompt, 1 + 5 * (place % 7)) for place, prompt in enumerate(prompts(20))]
    answers = await asyncio.gather(*(read(submit(engine, prompt, count)) for prompt, count in asked))
    assert answers == [continuation(prompt, count) for prompt, count in asked]


async def test_preempted_resumes_identically(start_engine: StartEngine) -> None:
    engine = start_engine(rows=8, kv_tokens=CAPACITY)
    asked = prompts(10)
    answers = await asyncio.gather(*(read(submit(engine, prompt, 60)) for prompt in asked))
    assert answers == [continuation(prompt, 60) for prompt in asked]
    assert engine.stats().preemptions > 0


async def test_same_seed_gives_the_same_tokens_alone_and_in_a_full_batch(start_engine: StartEngine) -> None:
    engine = start_engine(rows=8)
    sampling = SamplingParams(temperature=5.0, seed=42)

    def ask(params: SamplingParams) -> Generation:
        return engine.submit([3, 1, 4], max_tokens=30, sampling=params)

    alone = await read(ask(sampling))
    crowd = [ask(SamplingParams(temperature=5.0, seed=seed)) for seed in range(1, 12)]
    together = await asyncio.gather(read(ask(sampling)), *(read(other) for other in crowd))
    assert together[0] == alone
    assert len({tuple(tokens) for tokens in together}) == len(together)


async def test_drafts_change_no_token(start_engine: StartEngine) -> None:
    """Tokens repeat with a short period, so that drafts are made; the cache's sums tell of every wrong entry."""
    engine = start_engine(rows=2, deterministic=False)
    zero = [0] * 30
    expected = continuation(zero, 90)
    for prompt in ([*zero, *expected[:40]], zero):
        assert await read(submit(engine, prompt, 40)) == continuation(prompt, 40)
    pairs = [prompt + continuation(prompt, 20) for prompt in prompts(8, seed=2)]
    answers = await asyncio.gather(*(read(submit(engine, prompt, 60)) for prompt in pairs))
    assert answers == [continuation(prompt, 60) for prompt in pairs]
    assert engine.stats().drafted > 0


async def test_sampled_with_drafts_is_sampled_without(start_engine: StartEngine) -> None:
    """The arithmetic model's logits don't depend on the kind of step, so the very same tokens must come out."""
    texts = {}
    for deterministic in (True, False):
        engine = start_engine(rows=1, deterministic=deterministic)
        sampling = SamplingParams(temperature=0.3, seed=5, logit_bias=((1, 3.0), (2, 3.0), (3, 3.0)))
        texts[deterministic] = await read(engine.submit([1, 2] * 20, max_tokens=80, sampling=sampling))
    assert texts[True] == texts[False]
    assert 0 < engine.stats().accepted < engine.stats().drafted


async def test_an_answer_is_kept_where_the_law_is_off(start_engine: StartEngine) -> None:
    engine = start_engine(deterministic=False)
    answer = await read(submit(engine, [5] * 30, 40))
    again = submit(engine, [5] * 30 + answer + [1, 2])
    assert await read(again) == continuation([5] * 30 + answer + [1, 2], 20)
    assert again.cached_tokens == 69  # the last token was sampled, but never read


async def test_stop_token_ends_a_row(start_engine: StartEngine) -> None:
    engine = start_engine()
    expected = continuation([1, 2, 3], 50)
    stop = frozenset({expected[9]})
    generation = submit(engine, [1, 2, 3], 50, stop_tokens=stop)
    tokens = [token async for token in generation]
    assert [token.id for token in tokens] == continuation([1, 2, 3], 50, stop)
    assert [token.finished for token in tokens] == [None] * (len(tokens) - 1) + ["stop"]


async def test_length_ends_a_row(start_engine: StartEngine) -> None:
    tokens = [token async for token in submit(start_engine(), [1, 2], 7)]
    assert len(tokens) == 7
    assert tokens[-1].finished == "length"


async def test_abort_frees_rows_in_any_state(start_engine: StartEngine) -> None:
    engine = start_engine(rows=2)
    kept = prompts(2, seed=5)
    running = [asyncio.create_task(read(submit(engine, prompt, 60))) for prompt in kept]
    for prompt in prompts(30, seed=9):  # some of these run, one is being read, the others wait
        submit(engine, prompt, 80).abort()
    leaver = submit(engine, [8, 9], 100)
    async for _ in leaver:
        break
    assert await asyncio.gather(*running) == [continuation(prompt, 60) for prompt in kept]
    await drained(engine)
    assert engine.stats().cached_tokens == 0


async def test_fifty_random_leavers_disturb_nobody(start_engine: StartEngine) -> None:
    engine, choose = start_engine(rows=5), random.Random(3)

    async def leave_early(prompt: list[int]) -> None:
        stay = choose.randint(0, 6)
        async for _ in submit(engine, prompt, 80):
            if (stay := stay - 1) <= 0:
                return

    async def stay(prompt: list[int]) -> bool:
        return await read(submit(engine, prompt, 30)) == continuation(prompt, 30)

    leavers = [leave_early(prompt) for prompt in prompts(50, seed=11)]
    stayers = [stay(prompt) for prompt in prompts(10, seed=12)]
    results = await asyncio.gather(*stayers, *leavers)
    assert results[:10] == [True] * 10
    await drained(engine)
    assert engine.stats().cached_tokens == 0


async def test_cancelling_the_reader_aborts(start_engine: StartEngine) -> None:
    engine = start_engine()
    reader = asyncio.create_task(read(submit(engine, [1], 120)))
    while not engine.stats().generated_tokens:
        await asyncio.sleep(0.001)
    reader.cancel()
    await drained(engine)
    assert engine.stats().generated_tokens < 120


async def test_first_come_first_served(start_engine: StartEngine) -> None:
    engine, order = start_engine(rows=1), []

    async def note(name: int, prompt: list[int]) -> None:
        await read(submit(engine, prompt, 3))
        order.append(name)

    await asyncio.gather(*(note(name, prompt) for name, prompt in enumerate(prompts(8))))
    assert order == list(range(8))


async def test_a_full_queue_refuses_and_loses_nothing(start_engine: StartEngine) -> None:
    engine = start_engine(rows=1, waiting=2)
    admitted = [submit(engine, [place], 120) for place in range(3)]
    with pytest.raises(Overloaded):
        submit(engine, [9], 20)
    assert await asyncio.gather(*map(read, admitted)) == [continuation([place], 120) for place in range(3)]
    assert await read(submit(engine, [9], 20)) == continuation([9], 20)


async def test_what_was_aborted_takes_no_place_in_the_queue(start_engine: StartEngine) -> None:
    engine = start_engine(rows=1, waiting=1)
    for _ in range(20):
        leaver = submit(engine, [1], 100)
        leaver.abort()
        leaver.abort()
    assert await read(submit(engine, [9], 5)) == continuation([9], 5)


async def test_too_long_is_refused_with_both_numbers(start_engine: StartEngine) -> None:
    with pytest.raises(ContextTooLong, match=rf"\({CAPACITY + 1}\).*\({CAPACITY}\)"):
        submit(start_engine(), [1] * 28, 101)


async def test_the_longest_request_fits(start_engine: StartEngine) -> None:
    assert await read(submit(start_engine(), [2] * 28, 100)) == continuation([2] * 28, 100)


async def test_a_failing_step_ends_its_requests_and_the_engine_serves_on(start_engine: StartEngine) -> None:
    engine = start_engine(rows=2)
    session = engine._executor
    assert isinstance(session, WatchedExecutor)
    session.fail_next = True
    with pytest.raises(EngineFailed, match="as this test asked"):
        await read(submit(engine, [1], 5))
    assert await read(submit(engine, [1], 5)) == continuation([1], 5)


class BrokenGrammar:
    """A constraint that raises."""

    def allowed(self) -> NDArray[np.bool_]:
        raise ValueError("the grammar broke")

    def accept(self, token: int) -> None:
        pass


async def test_one_requests_fault_in_sampling_hurts_nobody_else(start_engine: StartEngine) -> None:
    engine = start_engine()
    victim = asyncio.create_task(read(submit(engine, [1, 2, 3], 100)))
    while not engine.stats().generated_tokens:
        await asyncio.sleep(0.001)
    with pytest.raises(EngineFailed, match="the grammar broke"):
        await read(submit(engine, [4, 5], 3, constraint=BrokenGrammar()))
    assert await victim == continuation([1, 2, 3], 100)
    await drained(engine)


async def test_a_failed_step_leaves_no_wrong_kept_prompt(start_engine: StartEngine) -> None:
    engine, first = start_engine(rows=2), [5] * 40
    session = engine._executor
    assert isinstance(session, WatchedExecutor)
    await read(submit(engine, first, 5))  # the copy that keeps it is part of the next step, which fails
    session.fail_next = True
    with pytest.raises(EngineFailed):
        await read(submit(engine, [7] * 20, 5))
    assert await read(submit(engine, [*first, 6, 6, 6])) == continuation([*first, 6, 6, 6], 20)


BASES = st.sampled_from([[0] * 30, [1, 2] * 16, [3] * 20])
visits = st.tuples(
    BASES,
    st.integers(0, 30),
    st.integers(1, 60),
    st.frozensets(st.integers(0, VOCAB - 1), max_size=2),
    st.none() | st.integers(0, 20),
    st.floats(0, 0.01),
)
shapes = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 4),
        "kept_prompts": st.integers(0, 3),
        "chunk_tokens": st.integers(2, 9),
        "prefill_tokens": st.integers(2, 40),
        "kv_tokens": st.sampled_from([CAPACITY, 150, 200, 10_000]),
        "deterministic": st.booleans(),
    }
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes, st.lists(visits, min_size=1, max_size=8))
def test_whatever_comes_and_goes_every_token_is_right(
    start_engine: StartEngine, shape: dict[str, int], visitors: list[Visit]
) -> None:
    """Arrivals, lengths, stop tokens, leavers, drafts, kept prompts and a tight cache, as hypothesis wants them."""
    engine = start_engine(**shape)

    async def visit(
        base: list[int], read_on: int, count: int, stop: frozenset[int], stay: int | None, at: float
    ) -> None:
        await asyncio.sleep(at)
        prompt = base + continuation(base, read_on)
        expected, got = continuation(prompt, count, stop), []
        async with aclosing(submit(engine, prompt, count, stop_tokens=stop).__aiter__()) as tokens:
            async for token in tokens:
                got.append(token.id)
                if stay is not None and len(got) > stay:
                    break
        assert got == expected[: len(got)]
        assert len(got) == len(expected) or stay is not None

    async def everybody() -> None:
        await asyncio.gather(*(visit(*visitor) for visitor in visitors))
        await drained(engine)

    asyncio.run(everybody())
    engine.close()


async def test_closing_fails_what_runs(start_engine: StartEngine) -> None:
    engine, closing = start_engine(), threading.Event()
    session = engine._executor
    run = session.run

    def run_while_closing(plan: StepPlan) -> NDArray[np.float32]:
        closing.wait()  # or the request might be over before anybody closes
        return run(plan)

    session.run = run_while_closing  # type: ignore[method-assign]
    reader = asyncio.create_task(read(submit(engine, [1], 120)))
    ending = asyncio.create_task(asyncio.to_thread(engine.close))
    while engine.open:
        await asyncio.sleep(0.001)
    closing.set()
    await ending
    with pytest.raises(EngineFailed):
        await reader
    with pytest.raises(EngineFailed, match="closed"):
        submit(engine, [1])


async def test_streams_keep_their_pace_while_a_long_prompt_is_read(start_engine: StartEngine) -> None:
    engine = start_engine(rows=2, chunk_tokens=4, prefill_tokens=4)
    session = engine._executor
    assert isinstance(session, WatchedExecutor)
    await asyncio.gather(read(submit(engine, [1], 60)), read(submit(engine, [2] * 40, 5)))
    mixed = [plan for plan in session.plans if plan.decode and plan.chunk]
    assert mixed
    assert all(len(plan.chunk.tokens) <= 5 for plan in mixed if plan.chunk)
