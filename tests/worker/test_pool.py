"""Many callers of one model: it is loaded once, has room for so many, and outlives those who gave up waiting."""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from runtime.artifacts import ArtifactStore, artifact_key
from runtime.config import EngineConfig, SamplingParams
from runtime.device import resolve_device
from runtime.engine import Engine
from runtime.pool import Pool
from runtime.stand_in import find_stand_in
from tests.worker.asking import ENDLESS, GREEDY, MODEL, answer, idle, stats, stream
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


async def test_an_idle_model_is_unloaded_after_its_keep_alive_and_comes_back() -> None:
    async with aclosing(AI(pool=Pool(ArtifactStore(), keep_alive=60))) as ai:
        first = await answer(ai, GREEDY)
        ai.pool.unload_idle()
        assert len(ai.loaded()) == 1, "it was used a moment ago"
        ai.loaded()[0].used_at -= 61
        await asyncio.to_thread(ai.pool.unload_idle)
        assert ai.loaded() == []
        assert await answer(ai, GREEDY) == first


async def test_a_busy_model_is_not_unloaded_nor_right_after() -> None:
    async with aclosing(AI(pool=Pool(ArtifactStore(), keep_alive=60))) as ai:
        async with await stream(ai, ENDLESS):
            ai.loaded()[0].used_at -= 61
            ai.pool.unload_idle()
            assert stats(ai).running
        await idle(ai)
        ai.pool.unload_idle()
        assert len(ai.loaded()) == 1


async def test_without_keep_alive_nothing_is_unloaded() -> None:
    async with aclosing(AI(pool=Pool(ArtifactStore()))) as ai:
        await answer(ai, GREEDY)
        ai.loaded()[0].used_at -= 1e6
        ai.pool.unload_idle()
        assert len(ai.loaded()) == 1


OTHER = "@hf/thebloke/zephyr-7b-beta-awq"


@pytest.fixture
def two_models(tmp_path: Path) -> tuple[ArtifactStore, int]:
    """A store where ``OTHER`` has weights of its own beside the stand-in, and the size of either."""
    here, store = find_stand_in(ArtifactStore(), resolve_device("auto")), ArtifactStore(tmp_path)
    assert here is not None
    for key in (here.folder.name, artifact_key(OTHER)):
        shutil.copytree(here.folder, store.root / "artifacts" / key, copy_function=os.link)
    return store, here.size


async def test_a_second_model_is_loaded_beside_the_first_where_both_fit(two_models: tuple[ArtifactStore, int]) -> None:
    store, size = two_models
    both = Pool(store, memory=2 * size)
    async with aclosing(AI(pool=both)) as ai:
        said = await asyncio.gather(*(loaded_text(ai, model) for model in (MODEL, OTHER)))
        assert said[0] == said[1]
        assert len(ai.loaded()) == 2


async def test_a_second_model_takes_the_place_of_the_first_where_one_fits(
    two_models: tuple[ArtifactStore, int],
) -> None:
    store, size = two_models
    tight = Pool(store, memory=2 * size - 1)
    async with aclosing(AI(pool=tight)) as ai:
        said = [await loaded_text(ai, model) for model in (MODEL, OTHER, MODEL)]
        assert said[0] == said[1] == said[2]
        assert len(ai.loaded()) == 1


async def test_two_that_load_at_once_keep_within_the_memory(two_models: tuple[ArtifactStore, int]) -> None:
    store, size = two_models
    async with aclosing(AI(pool=Pool(store, memory=2 * size - 1))) as ai:
        said = await asyncio.gather(*(loaded_text(ai, model) for model in (MODEL, OTHER)))
        assert said[0] == said[1]
        assert len(ai.loaded()) == 1


async def test_a_busy_model_keeps_its_memory_and_the_other_waits(two_models: tuple[ArtifactStore, int]) -> None:
    store, size = two_models
    async with aclosing(AI(pool=Pool(store, memory=2 * size - 1))) as ai:
        async with await stream(ai, ENDLESS):
            waiting = asyncio.create_task(loaded_text(ai, OTHER))
            await asyncio.wait([waiting], timeout=0.3)
            assert len(ai.loaded()) == 1
            assert not waiting.done()
        assert await waiting


async def test_a_broken_engine_is_replaced() -> None:
    async with aclosing(AI()) as ai:
        expected = await answer(ai, GREEDY)

        def broken() -> None:
            raise RuntimeError("as this test asked")

        engine = ai.loaded()[0].engine
        assert isinstance(engine, Engine)
        engine._scheduler.plan = broken  # type: ignore[method-assign, assignment]
        with pytest.raises(AiError):
            await answer(ai, GREEDY)
        while ai.loaded()[0].engine.open:
            await asyncio.sleep(0.001)
        assert await answer(ai, GREEDY) == expected


async def loaded_text(ai: AI, model: str) -> list[int]:
    """What the model that answers for ``model`` says to a fixed prompt."""
    loaded = await ai.pool.get(model)
    sampling = SamplingParams(temperature=0)
    assert isinstance(loaded.engine, Engine)
    return [token.id async for token in loaded.engine.submit([1, 2, 3], max_tokens=8, sampling=sampling)]


async def test_an_idle_model_takes_no_cpu_time() -> None:
    async with aclosing(AI(pool=Pool(ArtifactStore()))) as ai:
        await answer(ai, GREEDY)
        spent = time.process_time()
        await asyncio.sleep(1)
        assert time.process_time() - spent < 0.2
