"""The exact graph computes what PyTorch computes, whichever way the tokens go in (reference/make_reference.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.decoder_graph import write_decoder
from runtime.device import Device
from runtime.gguf_weights import GgufWeights
from runtime.linear_graph import EXACT, SERVED, Precision
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession

Floats = NDArray[np.float32]
REFERENCE = Path(__file__).parent / "reference"
MODELS = ("tiny_llama", "tiny_mistral")
TOLERANCE = 1e-4
with np.load(REFERENCE / "logits.npz") as saved:
    LOGITS: dict[str, Floats] = {name: saved[name] for name in MODELS}
    TOKENS: tuple[int, ...] = tuple(saved["tokens"].tolist())


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(model: str) -> Floats:
    return LOGITS[model]


@pytest.fixture(scope="module")
def session(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DecoderSession]:
    session = load(model, tmp_path_factory.mktemp(model), EXACT)
    yield session
    session.close()


def load(model: str, folder: Path, precision: Precision) -> DecoderSession:
    write_decoder(folder / "decoder.onnx", GgufWeights(REFERENCE / f"{model}.gguf"), precision)
    return DecoderSession(folder / "decoder.onnx", slots=2, capacity=len(TOKENS), device=Device(), threads=1)


def span(start: int, end: int, *, row: int = 0) -> Span:
    return Span(row, row, start, TOKENS[start:end], samples=True)


def read(session: DecoderSession, start: int, end: int, *, row: int = 0) -> Floats:
    """The logits after token ``end`` - 1, reading the tokens from ``start`` as one chunk."""
    logits: Floats = session.run(StepPlan((), (), span(start, end, row=row)))[0]
    return logits


def decode(session: DecoderSession, *positions: int) -> Floats:
    """One decode step of as many rows as there are ``positions``; a row's logits each."""
    spans = (span(position, position + 1, row=row) for row, position in enumerate(positions))
    return session.run(StepPlan((), tuple(spans), None))


def assert_close(found: Floats, expected: Floats) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_prompts_in_one_chunk(session: DecoderSession, expected: Floats) -> None:
    found = [read(session, 0, end) for end in range(1, len(TOKENS) + 1)]
    assert_close(np.stack(found), expected)


@pytest.mark.parametrize("size", [2, 7, 16, 40])
def test_prompt_in_chunks(session: DecoderSession, expected: Floats, size: int) -> None:
    ends = [*range(size, len(TOKENS), size), len(TOKENS)]
    found = [read(session, start, end) for start, end in zip([0, *ends], ends, strict=False)]
    assert_close(np.stack(found), expected[[end - 1 for end in ends]])


def test_token_by_token(session: DecoderSession, expected: Floats) -> None:
    found = [decode(session, position) for position in range(len(TOKENS))]
    assert_close(np.concatenate(found), expected)


def test_rows_at_different_positions(session: DecoderSession, expected: Floats) -> None:
    read(session, 0, 5, row=0)
    read(session, 0, 29, row=1)
    for step in range(len(TOKENS) - 29):
        assert_close(decode(session, 5 + step, 29 + step), expected[[5 + step, 29 + step]])


def test_served_precision_stays_near(model: str, expected: Floats, tmp_path: Path) -> None:
    session = load(model, tmp_path, SERVED)
    found = np.concatenate([decode(session, position) for position in range(len(TOKENS))])
    session.close()
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.05 * expected.std()
