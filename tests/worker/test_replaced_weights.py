"""A running roost follows what ``roost pull`` and ``roost rm`` do to the weights on disk, and loses no request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from runtime.artifacts import ArtifactStore, artifact_key
from runtime.pool import Pool
from runtime.pull_model import Wanted, pull_from
from tests.models.checkpoint import write_checkpoint
from tests.worker.asking import MODEL
from worker import AI, AiError, AIStream

ASKED: dict[str, Any] = {"prompt": "Hello", "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("replaced")
    return [write_checkpoint(folder / f"Tiny{seed}", seed=seed) for seed in (0, 1)]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "cache")


@pytest.fixture
async def pool(store: ArtifactStore) -> AsyncIterator[Pool]:
    pool = Pool(store, stand_in=False, device="cpu")  # whose weights these are
    yield pool
    await asyncio.to_thread(pool.close)


async def text(ai: AI) -> str:
    result = await ai.run(MODEL, ASKED)
    assert isinstance(result, dict)
    return str(result["response"])


async def gone(pool: Pool, weights: str) -> None:
    """Return once the weights of that name are unloaded; the test's own timeout is the limit."""
    while weights in [loaded.artifact.manifest.weights for loaded in pool.loaded()]:
        await asyncio.to_thread(pool.unload_idle)
        await asyncio.sleep(0.05)


async def test_other_weights_answer_once_they_are_pulled(
    pool: Pool, store: ArtifactStore, checkpoints: list[Path]
) -> None:
    ai = AI(pool=pool)
    pull_from(store, Wanted(MODEL, "fp32"), checkpoints[0])
    first = await text(ai)
    pull_from(store, Wanted(MODEL, "fp32"), checkpoints[1])
    second = await text(ai)
    assert first != second
    await gone(pool, "Tiny0")
    assert [loaded.artifact.manifest.weights for loaded in pool.loaded()] == ["Tiny1"]
    pull_from(store, Wanted(MODEL, "fp32"), checkpoints[0])
    assert await text(ai) == first


async def test_a_stream_goes_on_with_the_weights_it_began_with(
    pool: Pool, store: ArtifactStore, checkpoints: list[Path]
) -> None:
    ai = AI(pool=pool)
    pull_from(store, Wanted(MODEL, "fp32"), checkpoints[0])
    asked = {**ASKED, "max_tokens": 400, "stream": True}
    whole = [frame async for frame in await begun(ai, asked)]
    async with aclosing(await begun(ai, asked)) as stream:
        frames = [await anext(stream)]
        pull_from(store, Wanted(MODEL, "fp32"), checkpoints[1])
        await asyncio.to_thread(pool.unload_idle)
        frames += [frame async for frame in stream]
    assert b"".join(frames) == b"".join(whole)


async def begun(ai: AI, asked: dict[str, Any]) -> AIStream:
    result = await ai.run(MODEL, asked)
    assert isinstance(result, AIStream)
    return result


async def test_weights_that_were_removed_answer_no_more(
    pool: Pool, store: ArtifactStore, checkpoints: list[Path]
) -> None:
    ai = AI(pool=pool)
    pull_from(store, Wanted(MODEL, "fp32"), checkpoints[0])
    await text(ai)
    store.remove(artifact_key(MODEL))
    with pytest.raises(AiError, match="has no weights here: type roost pull"):
        await text(ai)
    await gone(pool, "Tiny0")
