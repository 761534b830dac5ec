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
from runtime.pool import Pool
from tests.worker.asking import MODEL, answer, stats
from worker import AI

pytestmark = pytest.mark.weights

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


async def test_preempted_rows_say_the_same() -> None:
    asked = [{"prompt": "Go on.", "max_tokens": 60, "temperature": 0.9, "seed": seed} for seed in range(1, 6)]
    async with aclosing(binding(replace(PLAIN, context=128))) as ai:
        expected = [await text(ai, inputs) for inputs in asked]
        room = 128 * ai.loaded()[0].engine._executor.kv_bytes_per_token
    async with aclosing(binding(replace(PLAIN, context=128, rows=5, kept_prompts=2, kv_bytes=room))) as ai:
        assert await asyncio.gather(*(text(ai, inputs) for inputs in asked)) == expected
        assert stats(ai).preemptions > 0


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
