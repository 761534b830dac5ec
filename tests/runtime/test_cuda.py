"""What a GPU must compute, each test twice: rehearsed on the CPU in CUDA's way, and on CUDA where a device answers.

``make test-gpu`` runs it on the device that ROOST_DEVICE names. Tolerances are in standard deviations of the logits.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import cuda_driver, loading
from runtime.artifacts import Artifact, ArtifactStore
from runtime.checkpoint_weights import CheckpointWeights
from runtime.config import EngineConfig, SamplingParams
from runtime.cuda_driver import Gpu
from runtime.decoder_graph import write_decoder
from runtime.device import Device, chosen, resolve_device
from runtime.device_fit import gpu_needs
from runtime.engine import Engine, Generation
from runtime.errors import DeviceUnavailable
from runtime.linear_graph import HALF
from runtime.loading import Ready, load_decoder
from runtime.precision import PrecisionName
from runtime.pull_model import Wanted, pull_from
from runtime.quantized_weights import QuantizedWeights
from runtime.scheduler import Move, Span, StepPlan
from runtime.session import DecoderSession
from runtime.steady_probe import probe
from tests.models.checkpoint import write_checkpoint
from tests.runtime.reading import LENGTH, Reference
from tests.runtime.reference import tiny_checkpoints
from tests.runtime.reference.tiny_checkpoints import CHECKPOINTS
from tests.runtime.test_checkpoints import REFERENCE

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
CONFIG = EngineConfig(rows=4, kept_prompts=2, context=512)
Open = Callable[..., DecoderSession]
Floats = NDArray[np.float32]


def _device() -> tuple[Device | None, str]:
    """The GPU to test on, or why there is none."""
    wish = os.environ.get("ROOST_DEVICE", "cuda")
    try:
        return chosen(resolve_device(wish if wish.startswith("cuda") else "cuda")), ""
    except DeviceUnavailable as error:
        return None, str(error)


GPU, WHY_NOT = _device()
ABSENT = pytest.mark.skipif(GPU is None, reason=WHY_NOT or "a GPU is here")
ON_CUDA = pytest.param("cuda", marks=[pytest.mark.gpu, ABSENT])


@pytest.fixture(scope="module", params=["rehearsed", ON_CUDA])
def gpu(request: pytest.FixtureRequest) -> Device | None:
    """The device, ``None`` in the rehearsal."""
    return GPU if request.param == "cuda" else None


@pytest.fixture
def open_session(gpu: Device | None) -> Iterator[Open]:
    """Opens sessions that decode steadily; closes them at the end."""
    opened: list[DecoderSession] = []

    def start(path: Path, *, slots: int = 4, capacity: int = LENGTH, capture: bool = False) -> DecoderSession:
        there = {"device": gpu, "capture": capture} if gpu else {"device": Device(), "steady": True, "threads": 1}
        opened.append(DecoderSession(path, slots=slots, capacity=capacity, **there))  # type: ignore[arg-type]
        return opened[-1]

    yield start
    for session in opened:
        session.close()


def decoder(folder: Path, name: str, precision: PrecisionName) -> Path:
    """A tiny checkpoint's graph for CUDA."""
    tiny_checkpoints.write_checkpoint(folder, name)
    weights = QuantizedWeights(CheckpointWeights(folder), precision, lambda _parameters: None)
    write_decoder(folder / "decoder.onnx", weights, HALF)
    return folder / "decoder.onnx"


def every_logit(session: DecoderSession, tokens: list[int]) -> Floats:
    """After the first 20 tokens, read in two chunks, and after each that follows, decoded."""
    session.run(StepPlan((), (), Span(0, 0, 0, tuple(tokens[:13]), samples=False)))
    chunk = session.run(StepPlan((), (), Span(0, 0, 13, tuple(tokens[13:20]), samples=True)))
    asks = (Span(0, 0, place, (tokens[place],), samples=True) for place in range(20, LENGTH))
    return np.concatenate([chunk, *(session.run(StepPlan((), (ask,), None)) for ask in asks)])


def distance(found: Floats, expected: Floats) -> float:
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())


@pytest.mark.parametrize(("precision", "loss"), [("fp16", 0.01), ("int8", 0.1), ("int4", 0.5)])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits_are_transformers(
    open_session: Open, name: str, precision: PrecisionName, loss: float, tmp_path: Path
) -> None:
    """And nearer still to what the CPU computes from the same graph, where rounding of weights plays no part."""
    path, reference = decoder(tmp_path, name, precision), Reference(REFERENCE, name)
    found = every_logit(open_session(path), reference.rows[-1])
    assert np.isfinite(found).all()
    assert distance(found, reference.logits[19:]) < loss
    plain = DecoderSession(path, slots=1, capacity=LENGTH, device=Device(), threads=1)
    assert distance(found, every_logit(plain, reference.rows[-1])) < 0.02
    plain.close()


@pytest.mark.parametrize("precision", ["fp16", "int4"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_company_slot_and_capture_change_no_bit(
    gpu: Device | None, open_session: Open, name: str, precision: PrecisionName, tmp_path: Path
) -> None:
    session = open_session(decoder(tmp_path, name, precision), capture=True)
    found = probe(session, rows=4, length=24)
    assert (found.same_words, found.capture_fault) == (True, None)
    assert session.steady is not None
    assert session.steady.captures == (gpu is not None)


def test_slots_are_copied_on_the_device(open_session: Open, tmp_path: Path) -> None:
    session = open_session(decoder(tmp_path, "llama", "fp16"), capacity=40)
    for slot in range(3):
        session.run(StepPlan((), (), Span(slot, slot, 0, tuple(range(slot, slot + 20)), samples=False)))
    before = [session.kept(slot, 40) for slot in range(4)]
    ask = StepPlan((Move(0, 3, 20), Move(1, 2, 12, start=5)), (), Span(3, 3, 20, (7,), samples=True))
    copied = session.run(ask)
    assert np.array_equal(copied, session.run(StepPlan((), (), Span(0, 0, 20, (7,), samples=True))))
    for name, values in session.kept(2, 20).items():
        np.testing.assert_array_equal(values[:, 5:12], before[1][name][:, 5:12])
        np.testing.assert_array_equal(values[:, :5], before[2][name][:, :5])
        np.testing.assert_array_equal(values[:, 12:], before[2][name][:, 12:20])
    for name, values in session.kept(3, 20).items():
        np.testing.assert_array_equal(values, before[0][name][:, :20])


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("tiny")
    wanted = Wanted(MODEL, "int4", Device("cuda", 0))
    return pull_from(ArtifactStore(folder / "cache"), wanted, write_checkpoint(folder / "Tiny"))


@pytest.fixture
def load(gpu: Device | None, artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    """Starts engines over the tiny artifact, as the pool does."""
    if gpu is None:
        monkeypatch.setattr(cuda_driver, "gpu", lambda index: Gpu(index, "Stub", 40 << 30, 40 << 30))
        monkeypatch.setattr(loading, "DecoderSession", _rehearsed)
    started: list[Engine] = []

    def start(**shape: Any) -> Engine:
        config = replace(CONFIG, debug=True, **shape)
        ready: Ready = load_decoder(artifact, gpu or Device("cuda", 0), config, None, lambda: False)
        assert ready.device.kind == "cuda"
        started.append(Engine(ready.session, ready.config))
        return started[-1]

    yield start
    for engine in started:
        engine.close()


def _rehearsed(model: Path, **options: Any) -> DecoderSession:
    return DecoderSession(model, **{**options, "device": Device(), "threads": 1, "steady": True})


def ask(engine: Engine, prompt: list[int], seed: int, count: int = 40) -> Generation:
    return engine.submit(prompt, max_tokens=count, sampling=SamplingParams(temperature=1.0, seed=seed))


async def words(generation: Generation) -> list[int]:
    return [token.id async for token in generation]


PROMPTS = [[(7 * place + 3 * seed) % 250 for place in range(20 + 61 * seed)] for seed in range(6)]


async def test_the_same_seed_says_the_same_alone_and_in_a_crowd(load: Callable[..., Engine]) -> None:
    engine = load()
    alone = [await words(ask(engine, prompt, seed)) for seed, prompt in enumerate(PROMPTS, 1)]
    together = await asyncio.gather(*(words(ask(engine, prompt, seed)) for seed, prompt in enumerate(PROMPTS, 1)))
    assert together == alone
    other = load(kept_prompts=0)
    assert [await words(ask(other, prompt, seed)) for seed, prompt in enumerate(PROMPTS, 1)] == alone


async def test_preempted_rows_say_the_same(load: Callable[..., Engine]) -> None:
    engine = load()
    alone = [await words(ask(engine, prompt, seed)) for seed, prompt in enumerate(PROMPTS, 1)]
    tight = load(kv_bytes=520 * engine._executor.kv_bytes_per_token)
    together = await asyncio.gather(*(words(ask(tight, prompt, seed)) for seed, prompt in enumerate(PROMPTS, 1)))
    assert together == alone
    assert tight.stats().preemptions > 0


async def test_who_leaves_disturbs_nobody(load: Callable[..., Engine]) -> None:
    engine = load()
    alone = await words(ask(engine, PROMPTS[2], 3))
    for seed, prompt in enumerate(PROMPTS, 1):
        leaver = ask(engine, prompt, seed, 150)
        if seed % 2:
            async for _ in leaver:
                break
        leaver.abort()
    assert await words(ask(engine, PROMPTS[2], 3)) == alone
    while engine.stats().running:
        await asyncio.sleep(0.001)
    assert engine.stats().cached_tokens == 0


@pytest.mark.parametrize("gpu", [ON_CUDA], indirect=True)
def test_no_more_is_taken_than_estimated(gpu: Device, artifact: Artifact, load: Callable[..., Engine]) -> None:
    assert gpu.index is not None
    config = replace(CONFIG, context=512)
    before = cuda_driver.gpu(gpu.index).free
    load()
    taken = before - cuda_driver.gpu(gpu.index).free
    estimated = gpu_needs(artifact.size, artifact.manifest, config).total(config.rows + config.kept_prompts)
    assert taken <= estimated
