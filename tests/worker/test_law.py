"""The same words under any load: on real weights, a seed's text depends on nothing but its own request.

Alone or in a crowd, early or late, its prompt read whole, in chunks or copied, preempted or not. roost holds this law
where the processor's kernels let it (the session probes for it); it is checked here wherever the tests run.
"""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.artifacts import ArtifactStore
from runtime.config import EngineConfig
from runtime.device import resolve_device
from runtime.engine import Engine
from runtime.pool import Pool
from tests.worker.asking import MODEL, answer, stats
from worker import AI

ELSEWHERE = "on CUDA the law holds for one number of rows: test_gpu_rehearsal.py and test_cuda.py prove it"
pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(resolve_device("auto").kind == "cuda", reason=ELSEWHERE),
]

STORY: dict[str, Any] = {"prompt": "Tell me a story of a fox. " * 9, "max_tokens": 20, "temperature": 0.9, "seed": 11}
PLAIN = EngineConfig(rows=1, kept_prompts=0, prefill_tokens=4096, context=512)
SHAPES = {
    "chunked": replace(PLAIN, prefill_tokens=7),
    "in pairs of tokens": replace(PLAIN, prefill_tokens=2),
    "with kept prompts": replace(PLAIN, kept_prompts=4),
    "many rows": replace(PLAIN, rows=16, chunk_tokens=5),
}


def binding(config: EngineConfig) -> AI:
    return AI(pool=Pool(ArtifactStore(), config=config))


async def text(ai: AI, inputs: dict[str, Any]) -> str:
    response: str = (await answer(ai, inputs))["response"]
    return response


@pytest.fixture(scope="module")
def alone() -> str:
    async def ask() -> str:
        async with aclosing(binding(PLAIN)) as ai:
            return await text(ai, STORY)

    return asyncio.run(ask())


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_engines_shape_changes_no_word(shape: str, alone: str) -> None:
    async with aclosing(binding(SHAPES[shape])) as ai:
        assert [await text(ai, STORY) for _ in range(3)] == [alone] * 3


async def test_fifteen_others_change_no_word(alone: str) -> None:
    async with aclosing(binding(EngineConfig(context=512))) as ai:
        others = [text(ai, {**STORY, "prompt": f"Number {place}!", "seed": place}) for place in range(1, 16)]
        assert (await asyncio.gather(text(ai, STORY), *others))[0] == alone


PAIRS = [{"prompt": "Go on.", "max_tokens": 60, "temperature": 0.9, "seed": seed} for seed in range(1, 6)]


@pytest.fixture(scope="module")
def one_by_one() -> tuple[list[str], int]:
    """What ``PAIRS`` say one after the other, and the bytes of cache that one token takes."""

    async def ask() -> tuple[list[str], int]:
        async with aclosing(binding(replace(PLAIN, context=128))) as ai:
            said = [await text(ai, inputs) for inputs in PAIRS]
            engine = ai.loaded()[0].engine
            assert isinstance(engine, Engine)
            return said, engine._executor.kv_bytes_per_token

    return asyncio.run(ask())


async def test_preempted_rows_say_the_same(one_by_one: tuple[list[str], int]) -> None:
    expected, token = one_by_one
    async with aclosing(binding(replace(PLAIN, context=128, rows=5, kept_prompts=2, kv_bytes=128 * token))) as ai:
        assert await asyncio.gather(*(text(ai, inputs) for inputs in PAIRS)) == expected
        assert stats(ai).preemptions > 0


tight = st.tuples(st.integers(2, 5), st.integers(0, 3), st.integers(128, 300), st.integers(2, 40))


@settings(max_examples=5, deadline=None)
@given(tight, st.lists(st.floats(0, 0.15), min_size=5, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_however_tight_the_cache_whoever_stays_says_the_same(
    one_by_one: tuple[list[str], int], shape: tuple[int, int, int, int], arrivals: list[float], leaves: list[bool]
) -> None:
    (expected, token), (rows, kept, kv_tokens, chunk) = one_by_one, shape
    config = EngineConfig(rows=rows, kept_prompts=kept, kv_bytes=kv_tokens * token, chunk_tokens=chunk, context=128)
    said = asyncio.run(squeezed(config, arrivals, leaves))
    assert [words for words, left in zip(said, leaves, strict=True) if not left] == [
        words for words, left in zip(expected, leaves, strict=True) if not left
    ]


async def squeezed(config: EngineConfig, arrivals: list[float], leaves: list[bool]) -> list[str | BaseException]:
    """What ``PAIRS`` say when they come at ``arrivals`` and some leave early."""

    async def visit(inputs: dict[str, Any], arrival: float, leaves: bool) -> str:
        await asyncio.sleep(arrival)
        return await asyncio.wait_for(text(ai, inputs), 0.1 if leaves else None)

    async with aclosing(binding(config)) as ai:
        visits = zip(PAIRS, arrivals, leaves, strict=True)
        return await asyncio.gather(*(visit(*one) for one in visits), return_exceptions=True)


async def test_without_the_law_repetitive_text_takes_fewer_steps() -> None:
    asked = "Write this list again: apples, pears, plums, apples, pears, plums, apples, pears, plums."
    async with aclosing(binding(EngineConfig(context=512, deterministic=False))) as ai:
        said = await text(ai, {"prompt": asked, "max_tokens": 80, "temperature": 0})
        counts = stats(ai)
    assert said.count("apples, pears") > 1
    assert counts.accepted > 0
    assert counts.steps < counts.generated_tokens


async def test_a_prompt_that_begins_like_an_earlier_one_is_not_read_again() -> None:
    async with aclosing(AI()) as ai:
        system = {"role": "system", "content": "You answer in one word. " * 20}
        for place in range(3):
            user = {"role": "user", "content": f"Word {place}?"}
            result = await ai.run(MODEL, {"messages": [system, user], "max_tokens": 4})
            assert isinstance(result, dict)
            kept = result["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0)
            assert (kept > 100) == (place > 0)


crowds = st.lists(
    st.tuples(st.floats(0, 0.3), st.integers(1, 60), st.integers(1, 30), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crowds, st.floats(0, 0.2))
def test_whoever_comes_and_goes_changes_no_word(
    alone: str, crowd: list[tuple[float, int, int, bool]], arrival: float
) -> None:
    assert asyncio.run(among(crowd, arrival)) == alone


async def among(crowd: list[tuple[float, int, int, bool]], arrival: float) -> str:
    async with aclosing(binding(EngineConfig(rows=8, context=512, chunk_tokens=16))) as ai:
        others = [asyncio.create_task(visit(ai, place + 1, *visitor)) for place, visitor in enumerate(crowd)]
        await asyncio.sleep(arrival)
        said = await text(ai, STORY)
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        return said


async def visit(ai: AI, seed: int, arrival: float, words: int, count: int, leaves: bool) -> None:
    await asyncio.sleep(arrival)
    asking = text(ai, {"prompt": "la " * words, "max_tokens": count, "seed": seed})
    await (asyncio.wait_for(asking, 0.05) if leaves else asking)
