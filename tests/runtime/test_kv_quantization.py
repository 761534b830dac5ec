"""A decoder with an int8 KV cache stays near the one with floats, and keeps the law: chunks change no bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.artifacts import ArtifactStore
from runtime.device import Device
from runtime.pull_model import Wanted, pull_from
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from tests.models.checkpoint import write_checkpoint

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
TOKENS = tuple(b"It reads this text whole, or piece by piece.")
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DecoderSession, DecoderSession]]:
    """With a cache of floats, and of int8."""
    folder = tmp_path_factory.mktemp("kv")
    checkpoint, store = write_checkpoint(folder / "Tiny"), ArtifactStore(folder / "cache")
    opened = []
    for int8_kv in (False, True):
        made = pull_from(store, Wanted(MODEL, "int8", int8_kv=int8_kv), checkpoint)
        assert made.manifest.kv == ("int8" if int8_kv else "float")
        opened.append(DecoderSession(made.decoder, slots=3, capacity=64, device=Device(), threads=1))
    yield opened[0], opened[1]
    for session in opened:
        session.close()


def read(session: DecoderSession, *ends: int, row: int = 0) -> Floats:
    """The logits after the text, read in chunks that end there."""
    logits: Floats = np.empty(0, np.float32)
    for start, end in zip([0, *ends], [*ends, len(TOKENS)], strict=True):
        logits = session.run(StepPlan((), (), Span(row, row, start, TOKENS[start:end], samples=True)))[0]
    return logits


def test_it_takes_a_quarter_of_the_memory(sessions: tuple[DecoderSession, DecoderSession]) -> None:
    floats, int8 = sessions
    assert int8.kv_bytes_per_token * 4 == floats.kv_bytes_per_token


def test_it_stays_near(sessions: tuple[DecoderSession, DecoderSession]) -> None:
    floats, int8 = (read(session) for session in sessions)
    error = np.sqrt(np.mean((int8 - floats) ** 2)) / floats.std()
    assert 0 < error < 0.1


@pytest.mark.parametrize("ends", [(7,), (16, 32), (2, 4, 41)])
def test_chunks_change_no_bit(sessions: tuple[DecoderSession, DecoderSession], ends: tuple[int, ...]) -> None:
    for session in sessions:
        np.testing.assert_array_equal(read(session, *ends), read(session))


def test_company_changes_no_bit(sessions: tuple[DecoderSession, DecoderSession]) -> None:
    for session in sessions:
        for row in range(3):
            read(session, row=row)
        asks = [Span(row, row, len(TOKENS), (65 + row,), samples=True) for row in range(3)]
        together = session.run(StepPlan((), tuple(asks), None))
        for row in range(3):
            read(session, row=row)
        alone = [session.run(StepPlan((), (ask,), None))[0] for ask in asks]
        np.testing.assert_array_equal(together, np.stack(alone))
