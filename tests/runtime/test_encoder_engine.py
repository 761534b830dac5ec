"""The encoder's engine: a text's vector is its own in any company, whoever leaves stops, and faults are told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.artifacts import TEXT_EMBEDDINGS, ArtifactStore
from runtime.config import EmbeddingFacts
from runtime.encoder_engine import MOST_WAITING, EncoderEngine
from runtime.encoder_session import EncoderSession, Row
from runtime.errors import EngineFailed, Overloaded
from runtime.pull_model import Wanted, pull_from
from tests.models.embedding import SMALL, write_sentence_transformer
from tests.runtime.reference.tiny_encoders import WORDS

TOLERANCE = 1e-5


class Gated(EncoderSession):
    """A real session whose batches wait until the test lets them go."""

    def __init__(self, model: Path, facts: EmbeddingFacts) -> None:
        super().__init__(model, facts, threads=1)
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []

    def run(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        self.batches.append(len(rows))
        self.gate.wait()
        return super().run(rows)


@pytest.fixture
def session(tmp_path: Path) -> Gated:
    write_sentence_transformer(tmp_path / "bert")
    wanted = Wanted(SMALL, "fp32", task=TEXT_EMBEDDINGS)
    made = pull_from(ArtifactStore(tmp_path / "cache"), wanted, tmp_path / "bert")
    assert made.manifest.embedding is not None
    return Gated(made.folder / made.manifest.embedding.graph, made.manifest.embedding)


@pytest.fixture
async def engine(session: Gated) -> AsyncIterator[EncoderEngine]:
    running = EncoderEngine(session)
    yield running
    session.gate.set()
    running.close()


def texts(count: int, seed: int) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(4, len(WORDS), draw.integers(1, 41)).tolist() for _ in range(count)]


async def at_work(session: Gated, batches: int = 1) -> None:
    while len(session.batches) < batches:
        await asyncio.sleep(0.001)


async def test_a_vector_doesn_t_depend_on_who_shares_its_batch(engine: EncoderEngine, session: Gated) -> None:
    requests = [texts(count, seed) for seed, count in enumerate((1, 40, 3, 100, 7))]
    alone = [
        np.concatenate([await engine.submit([text], "mean").vectors() for text in request]) for request in requests
    ]
    session.gate.clear()
    submitted = [engine.submit(request, "mean") for request in requests]
    session.batches.clear()
    session.gate.set()
    together = await asyncio.gather(*(request.vectors() for request in submitted))
    for found, wanted in zip(together, alone, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)
    assert max(session.batches) > 8
    assert sum(session.batches) <= sum(map(len, requests))


async def test_requests_with_other_poolings_share_a_batch(engine: EncoderEngine, session: Gated) -> None:
    text = [5, 6, 7]
    mean, cls = [await engine.submit([text], pooling).vectors() for pooling in ("mean", "cls")]
    assert np.abs(mean - cls).max() > 0.1
    session.gate.clear()
    blocking = asyncio.create_task(engine.submit([[4] * 30], "mean").vectors())
    await at_work(session, 3)
    both = [engine.submit([text], pooling) for pooling in ("mean", "cls")]
    session.gate.set()
    found = await asyncio.gather(blocking, *(request.vectors() for request in both))
    assert session.batches[3:] == [2]
    np.testing.assert_allclose(found[1], mean, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found[2], cls, rtol=0, atol=TOLERANCE)


async def test_whoever_leaves_is_read_no_further(engine: EncoderEngine, session: Gated) -> None:
    session.gate.clear()
    leaving = asyncio.create_task(engine.submit([[4] * 40] * 500, "mean").vectors())
    await at_work(session)
    staying = engine.submit([[5, 6, 7]], "mean")
    assert (engine.stats().running, engine.stats().waiting) == (1, 1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (engine.stats().running, engine.stats().waiting) == (0, 1)
    session.gate.set()
    assert (await staying.vectors()).shape == (1, 64)
    assert len(session.batches) == 2
    assert (engine.stats().running, engine.stats().waiting) == (0, 0)


async def test_a_long_list_lets_a_later_request_pass(engine: EncoderEngine, session: Gated) -> None:
    """The oldest text is always in the next batch, so nobody waits for ever; a lone text waits for few batches."""
    session.gate.clear()
    long = asyncio.create_task(engine.submit([[4] * 40] * 200, "mean").vectors())
    await at_work(session)
    later = engine.submit([[4] * 40], "mean")
    session.gate.set()
    await later.vectors()
    assert (await long).shape == (200, 64)


async def test_a_failed_batch_is_told_to_those_in_it_alone(
    engine: EncoderEngine, session: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineFailed, match="the model failed"):
        await engine.submit([[len(WORDS) + 5]], "mean").vectors()  # a token that the weights don't know
    assert (await engine.submit([[5]], "mean").vectors()).shape == (1, 64)
    assert engine.open


async def test_a_full_queue_refuses_and_a_closed_engine_fails(engine: EncoderEngine, session: Gated) -> None:
    session.gate.clear()
    waiting = asyncio.create_task(engine.submit([[5]] * MOST_WAITING, "mean").vectors())
    await at_work(session)
    more = engine.submit([[5]] * 30, "mean")
    with pytest.raises(Overloaded):
        engine.submit([[5]] * 33, "mean")
    waiting.cancel()
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    while engine.open:
        await asyncio.sleep(0.001)
    session.gate.set()
    with pytest.raises(EngineFailed, match="closed"):
        await more.vectors()
    await closing
    with pytest.raises(EngineFailed, match="closed"):
        engine.submit([[5]], "mean")
