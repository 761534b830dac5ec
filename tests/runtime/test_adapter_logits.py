"""Adapted rows compute what PEFT's merged models compute (reference/make_adapter_logits.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.adapter import Adapter
from runtime.adapters import PeftAdapter
from runtime.artifacts import ArtifactStore
from runtime.decoder_graph import write_decoder
from runtime.gguf_weights import GgufWeights
from runtime.kv_quantization import calibrate, quantise_cache
from runtime.linear_graph import EXACT
from runtime.precision import PrecisionName
from runtime.session import DecoderSession
from runtime.stand_in import GGUF_NAME
from tests.models.adapted import CAPACITY, Floats, open_session, read, tiny_adapter, write, write_tiny_decoder
from tests.runtime.reference import smollm2_adapter
from tests.runtime.reference.tiny_adapters import ADAPTED, KINDS, write_tiny_adapter

REFERENCE = Path(__file__).parent / "reference" / "adapter_logits.npz"
TOLERANCE = 1e-4
CHUNK = 7


class Reference:
    """What PEFT's merged model computed."""

    def __init__(self, name: str) -> None:
        with np.load(REFERENCE) as saved:
            self.row: list[int] = saved[f"{name}.row"].tolist()
            self.logits: Floats = saved[f"{name}.logits"]
            self.sha256 = str(saved[f"{name}.sha256"])


@pytest.fixture(scope="module", params=ADAPTED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(name)


@pytest.fixture(scope="module")
def session(name: str, folder: Path) -> Iterator[DecoderSession]:
    session = open_session(write_tiny_decoder(folder, name))
    yield session
    session.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def adapter(name: str, folder: Path, session: DecoderSession, kind: str) -> Adapter:
    return tiny_adapter(folder, name, kind)


def test_the_adapters_are_those_that_were_computed_with(name: str, kind: str, tmp_path: Path) -> None:
    assert write_tiny_adapter(tmp_path, name, kind) == Reference(f"{name}.{kind}").sha256


def test_logits_of_chunks(name: str, kind: str, session: DecoderSession, adapter: Adapter) -> None:
    reference = Reference(f"{name}.{kind}")
    for start in range(0, len(reference.row), CHUNK):
        end = min(start + CHUNK, len(reference.row))
        found = read(session, reference.row, start, end, adapter)
        np.testing.assert_allclose(found, reference.logits[end - 1], rtol=0, atol=TOLERANCE)


def test_logits_token_by_token(name: str, kind: str, session: DecoderSession, adapter: Adapter) -> None:
    reference = Reference(f"{name}.{kind}")
    for place, token in enumerate(reference.row):
        found = write(session, [(place, token, adapter)])[0]
        np.testing.assert_allclose(found, reference.logits[place], rtol=0, atol=TOLERANCE)


def test_greedy_tokens_of_all_adapters_in_one_batch(name: str, folder: Path, session: DecoderSession) -> None:
    references = [Reference(f"{name}.{kind}") for kind in KINDS]
    adapters = [tiny_adapter(folder, name, kind) for kind in KINDS]
    length = len(references[0].row) - 24
    rows = [reference.row[:length] for reference in references]
    last = [read(session, row, 0, length, adapters[place], row=place) for place, row in enumerate(rows)]
    while len(rows[0]) < len(references[0].row):
        for row, logits in zip(rows, last, strict=True):
            row.append(int(logits.argmax()))
        last = list(write(session, [(len(row) - 1, row[-1], a) for row, a in zip(rows, adapters, strict=True)]))
    assert rows == [reference.row for reference in references]


@pytest.mark.parametrize(("precision", "loss"), [("fp16", 0.01), ("int8", 0.2)])
@pytest.mark.parametrize("checkpoint", ["llama", "phi3"])
def test_adapters_on_rounded_weights(checkpoint: str, precision: PrecisionName, loss: float, tmp_path: Path) -> None:
    session = open_session(write_tiny_decoder(tmp_path, checkpoint, precision))
    adapter = tiny_adapter(tmp_path, checkpoint, "all", np.float16 if precision == "fp16" else np.float32)
    assert off(session, checkpoint, adapter) < loss
    session.close()


def test_adapters_over_an_int8_cache(tmp_path: Path) -> None:
    decoder = write_tiny_decoder(tmp_path, "llama")
    quantise_cache(decoder, calibrate(decoder, Reference("llama.all").row))
    session = open_session(decoder)
    assert off(session, "llama", tiny_adapter(tmp_path, "llama", "all")) < 0.2
    session.close()


def off(session: DecoderSession, checkpoint: str, adapter: Adapter) -> float:
    """How far off the merged model's logits are, in their own spread."""
    reference = Reference(f"{checkpoint}.all")
    found = [read(session, reference.row, at, at + 1, adapter) for at in range(len(reference.row))]
    return float(np.sqrt(np.mean((np.stack(found) - reference.logits) ** 2)) / reference.logits.std())


@pytest.mark.weights
def test_smollm2_says_what_the_merged_model_says(tmp_path: Path) -> None:
    with np.load(REFERENCE) as saved:
        stated = {key.removeprefix("smollm2."): saved[key] for key in saved.files if key.startswith("smollm2.")}
    assert smollm2_adapter.write_smollm2_adapter(tmp_path) == str(stated["sha256"])
    weights = GgufWeights(ArtifactStore().downloads / GGUF_NAME)
    write_decoder(tmp_path / "decoder.onnx", weights, EXACT)
    session = open_session(tmp_path / "decoder.onnx", slots=2)
    adapter = PeftAdapter.read(tmp_path).fit(weights.shape, key="random", name="random")
    prompt = smollm2_adapter.PROMPT
    rows = [list(prompt), list(prompt)]
    last = np.stack([read(session, prompt, 0, len(prompt), who, row=row) for row, who in enumerate((adapter, None))])
    for place in range(len(prompt), len(stated["row"])):
        found = last[0][stated["ids"][place - 1]]
        np.testing.assert_allclose(found, stated["values"][place - 1], rtol=0, atol=5e-4)
        for row, logits in zip(rows, last, strict=True):
            row.append(int(logits.argmax()))
        last = write(session, [(place, rows[0][-1], adapter), (place, rows[1][-1], None)])
    session.close()
    assert rows == [stated["row"].tolist(), stated["plain"].tolist()]
    assert len(prompt) + smollm2_adapter.WORDS <= CAPACITY
