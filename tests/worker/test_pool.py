"""Many callers of one model: it is loaded once, has room for so many, and outlives those who gave up waiting."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from runtime.artifacts import ArtifactStore
from runtime.config import EngineConfig
from runtime.pool import Pool
from tests.worker.asking import ENDLESS, GREEDY, answer, idle, stats, stream
from worker import AI, AiError

pytestmark = pytest.mark.weights

StartAI = Callable[..., AI]


@pytest.fixture
async def start_ai() -> AsyncIterator[StartAI]:
    """Makes bindings with engines of their own; ends them with the test."""
    started: list[AI] = []

    def start(config: EngineConfig | None = None) -> AI:
        started.append(AI(pool=Pool(ArtifactStore(), config=config)))
        return started[-1]

    yield start
    for ai in started:
        await ai.aclose()


def engines() -> int:
    return sum(thread.name == "roost-engine" for thread in threading.enumerate())


async def test_a_model_that_is_asked_for_twice_at_once_is_loaded_once(start_ai: StartAI) -> None:
    ai, before = start_ai(), engines()
    first, second = await asyncio.gather(answer(ai, GREEDY), answer(ai, GREEDY))
    assert first == second
    assert engines() - before == len(ai.loaded()) == 1


async def test_beyond_the_queues_room_the_platform_is_out_of_capacity(start_ai: StartAI) -> None:
    ai = start_ai(EngineConfig(rows=1, waiting=0))
    async with await stream(ai, ENDLESS):
        with pytest.raises(AiError) as caught:
            await answer(ai, GREEDY)
    assert (caught.value.code, caught.value.status) == (3040, 429)
    await idle(ai)
    assert await answer(ai, GREEDY)


async def test_one_who_waits_in_the_queue_is_answered_in_turn(start_ai: StartAI) -> None:
    ai = start_ai(EngineConfig(rows=1, waiting=1))
    async with await stream(ai, ENDLESS):
        waiting = asyncio.create_task(answer(ai, GREEDY))
        while not stats(ai).waiting:
            await asyncio.sleep(0.001)
    assert (await waiting)["usage"]["completion_tokens"] == 8


async def test_one_who_gives_up_in_the_queue_leaves_it(start_ai: StartAI) -> None:
    ai = start_ai(EngineConfig(rows=1, waiting=1))
    async with await stream(ai, ENDLESS):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(answer(ai, GREEDY), 0.05)
            while stats(ai).waiting:
                await asyncio.sleep(0.001)
    assert (await idle(ai)).waiting == 0


async def loading(ai: AI) -> asyncio.Task[dict[str, Any]]:
    """A call that waits for the model's load, which is under way in a thread."""
    waiting = asyncio.create_task(answer(ai, GREEDY))
    while not ai.pool._models:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    return waiting


async def test_one_who_gives_up_while_the_model_loads_stops_nobody_else(start_ai: StartAI) -> None:
    ai = start_ai()
    impatient = await loading(ai)
    patient = asyncio.create_task(answer(ai, GREEDY))
    impatient.cancel()
    assert (await patient)["response"]


async def test_a_model_that_nobody_waited_for_is_ended_with_the_rest() -> None:
    ai, before = AI(), engines()
    impatient = await loading(ai)
    impatient.cancel()
    await asyncio.wait([impatient])
    await ai.aclose()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert engines() == before


def test_a_load_that_one_event_loop_left_behind_is_no_hindrance_to_the_next() -> None:
    ai, before = AI(), engines()
    asyncio.run(loading(ai))
    assert asyncio.run(answer(ai, GREEDY))["response"]
    asyncio.run(ai.aclose())
    assert engines() == before


def test_one_binding_serves_one_event_loop_after_another() -> None:
    ai = AI()
    assert asyncio.run(answer(ai, GREEDY)) == asyncio.run(answer(ai, GREEDY))
    asyncio.run(ai.aclose())


async def test_a_closed_binding_takes_its_engines_along_and_may_be_closed_twice() -> None:
    ai, before = AI(), engines()
    await answer(ai, GREEDY)
    await ai.aclose()
    await ai.aclose()
    assert engines() == before
    assert ai.loaded() == []
