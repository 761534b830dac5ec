"""What is settled before a GPU computes, over a driver that is made up and sessions that run on the CPU instead.

Everything but ONNX Runtime's CUDA provider is what runs on a GPU: the graph of float16, the choice of a device, the
estimate, the grid, steady decode and the probes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import cuda_driver, loading
from runtime.artifacts import Artifact, ArtifactStore
from runtime.config import EngineConfig
from runtime.cuda_driver import Gpu
from runtime.device import Device
from runtime.device_fit import gpu_needs, kept_that_fit
from runtime.errors import ArtifactError, DeviceFull, DeviceUnavailable
from runtime.loading import GRID, expected_device, load_decoder
from runtime.precision import PrecisionName
from runtime.pull_model import Wanted, pull_from
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from tests.models.checkpoint import write_checkpoint
from tests.runtime.test_pull_model import STARLING

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
CUDA = Device("cuda", 0, "Stub")
CONFIG = EngineConfig(rows=3, kept_prompts=2, context=256)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("loading") / "Tiny")


@pytest.fixture(scope="module")
def half(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return pull_from(ArtifactStore(tmp_path_factory.mktemp("half")), Wanted(MODEL, "int4", CUDA), checkpoint)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of every session that was asked for on CUDA; what comes runs on the CPU."""
    asked: list[dict[str, Any]] = []

    def on_the_cpu(model: Path, **options: Any) -> DecoderSession:
        asked.append(options)
        return DecoderSession(model, **{**options, "device": Device(), "threads": 1, "steady": True})

    monkeypatch.setattr(loading, "DecoderSession", on_the_cpu)
    give(monkeypatch, 40 << 30)
    return asked


def give(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(cuda_driver, "gpu", lambda index: Gpu(index, "Stub", free, 80 << 30))


def nothing_to_unload() -> bool:
    return False


def test_a_model_for_cuda_runs_there_steadily_on_a_grid_and_by_the_law(
    half: Artifact, opened: list[dict[str, Any]]
) -> None:
    ready = load_decoder(half, CUDA, CONFIG, None, nothing_to_unload)
    assert (ready.device, ready.same_words, ready.config.grid) == (CUDA, True, GRID)
    assert ready.config.kv_bytes == 5 * 256 * ready.session.kv_bytes_per_token
    assert [(asked["capture"], asked["rows"], asked["slots"]) for asked in opened] == [(True, 3, 5)]
    assert isinstance(ready.session, DecoderSession)
    assert ready.session.steady is not None
    assert ready.session.steady.captures
    ready.session.close()


def test_without_the_law_there_is_no_grid(half: Artifact, opened: list[dict[str, Any]]) -> None:
    ready = load_decoder(half, CUDA, replace(CONFIG, deterministic=False), None, nothing_to_unload)
    assert (ready.same_words, ready.config.grid, opened[0]["deterministic"]) == (False, None, False)
    ready.session.close()


Breaks = Callable[[DecoderSession, StepPlan], None]


def breaking(monkeypatch: pytest.MonkeyPatch, breaks: Breaks) -> None:
    """Sessions whose captured decode steps do what ``breaks`` says before they run."""
    run = DecoderSession.run

    def broken(self: DecoderSession, plan: StepPlan) -> Any:
        if plan.decode and self.steady is not None and self.steady.captures:
            breaks(self, plan)
            return run(self, plan) + np.float32(1)
        return run(self, plan)

    monkeypatch.setattr(DecoderSession, "run", broken)


def refuse(_session: DecoderSession, _plan: StepPlan) -> None:
    raise RuntimeError("operation not permitted when stream is capturing\nat somewhere")


def change(_session: DecoderSession, _plan: StepPlan) -> None:
    pass


@pytest.mark.parametrize(("breaks", "words"), [(refuse, "stream is capturing"), (change, "gives other bits")])
def test_capture_that_does_not_hold_is_switched_off_aloud(
    half: Artifact,
    opened: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    breaks: Breaks,
    words: str,
) -> None:
    breaking(monkeypatch, breaks)
    ready = load_decoder(half, CUDA, CONFIG, None, nothing_to_unload)
    assert [asked["capture"] for asked in opened] == [True, False]
    assert "aren't captured as CUDA graphs on cuda:0 (Stub)" in caplog.text
    assert words in caplog.text
    assert isinstance(ready.session, DecoderSession)
    assert ready.session.steady is not None
    assert not ready.session.steady.captures
    assert ready.same_words
    ready.session.close()


def test_a_session_that_refuses_capture_is_opened_without(
    half: Artifact, opened: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def picky(model: Path, **options: Any) -> DecoderSession:
        if options["capture"]:
            raise ArtifactError("ONNX Runtime can't load decoder.onnx: This session cannot use the graph capture")
        return DecoderSession(model, **{**options, "device": Device(), "threads": 1, "steady": True})

    monkeypatch.setattr(loading, "DecoderSession", picky)
    load_decoder(half, CUDA, CONFIG, None, nothing_to_unload).session.close()
    assert "cannot use the graph capture" in caplog.text


def test_a_gpu_that_cannot_compute_is_a_sentence(
    half: Artifact, opened: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DecoderSession, "run", refuse)
    with pytest.raises(DeviceUnavailable, match=r"^cuda:0 \(Stub\) can't compute this model: operation not permitted"):
        load_decoder(half, CUDA, CONFIG, None, nothing_to_unload)


def test_a_row_that_depends_on_its_company_is_told(
    half: Artifact, opened: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = DecoderSession.run

    def sociable(self: DecoderSession, plan: StepPlan) -> Any:
        return run(self, plan) + np.float32(len(plan.decode))

    monkeypatch.setattr(DecoderSession, "run", sociable)
    ready = load_decoder(half, CUDA, CONFIG, None, nothing_to_unload)
    assert not ready.same_words
    assert "words may depend on load" in caplog.text
    ready.session.close()


def test_kept_prompts_are_given_up_first(
    half: Artifact, opened: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = gpu_needs(half.size, half.manifest, CONFIG)
    give(monkeypatch, needed.total(4))
    ready = load_decoder(half, CUDA, CONFIG, None, nothing_to_unload)
    assert (ready.config.rows, ready.config.kept_prompts, opened[0]["slots"]) == (3, 1, 4)
    ready.session.close()


def test_too_big_unloads_who_is_idle_and_then_is_a_sentence_with_the_numbers(
    half: Artifact, opened: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    give(monkeypatch, 1 << 30)

    def one_to_unload() -> bool:
        asked.append(1)
        return len(asked) < 3

    with pytest.raises(
        DeviceFull, match=r"Tiny \(int4 for CUDA\) doesn't fit cuda:0 \(Stub\): it needs .* GB are free"
    ):
        load_decoder(half, CUDA, CONFIG, None, one_to_unload)
    assert len(asked) == 3
    assert opened == []


def test_what_was_chosen_automatically_gives_way_to_the_cpu_aloud(
    half: Artifact, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    give(monkeypatch, 1 << 30)
    ready = load_decoder(half, replace(CUDA, automatic=True), CONFIG, 1, nothing_to_unload)
    assert isinstance(ready.session, DecoderSession)
    assert (ready.device, ready.session.steady, ready.config) == (Device(), None, CONFIG)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Tiny runs on the CPU, not on cuda:0 (Stub): Tiny (int4 for CUDA) doesn't fit" in caplog.text
    ready.session.close()


def test_a_graph_for_the_cpu_is_refused_with_what_to_type(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = pull_from(ArtifactStore(tmp_path), Wanted(MODEL, "int8"), checkpoint)
    with pytest.raises(ArtifactError, match=f"Tiny was built for the CPU: type roost pull {MODEL} --device cuda"):
        load_decoder(made, CUDA, CONFIG, None, nothing_to_unload)
    automatic = replace(CUDA, automatic=True)
    assert expected_device(made, automatic) == Device()
    assert expected_device(made, CUDA) == CUDA
    load_decoder(made, automatic, CONFIG, 1, nothing_to_unload).session.close()
    assert "was built for the CPU" in caplog.text


@pytest.mark.parametrize("precision", ["int4", "int8", "fp16"])
def test_a_pull_for_the_other_device_builds_its_graph(
    checkpoint: Path, tmp_path: Path, precision: PrecisionName
) -> None:
    store = ArtifactStore(tmp_path)
    for device in (Device(), CUDA, Device(), CUDA):
        manifest = pull_from(store, Wanted(MODEL, precision, device), checkpoint).manifest
        assert manifest.half == (device == CUDA or precision == "fp16")
        assert manifest.described == (f"{precision} for CUDA" if manifest.half and precision != "fp16" else precision)
    assert pull_from(store, Wanted(MODEL, None, CUDA), checkpoint).manifest == manifest


def test_an_int8_cache_stays_near_on_cudas_graph(half: Artifact, checkpoint: Path, tmp_path: Path) -> None:
    made = pull_from(ArtifactStore(tmp_path), Wanted(MODEL, "int4", CUDA, int8_kv=True), checkpoint)
    assert made.manifest.described == "int4 for CUDA, int8 KV"
    config = EngineConfig(context=512)
    slots = [gpu_needs(one.size, one.manifest, config).slot for one in (half, made)]
    assert slots[0] == 2 * slots[1]
    found: list[Any] = []
    for one in (half, made):
        session = DecoderSession(one.decoder, slots=2, capacity=64, device=Device(), threads=1, steady=True)
        assert session.kv_bytes_per_token * 512 == slots[len(found)]
        session.run(StepPlan((), (), Span(1, 1, 0, tuple(range(65, 100)), samples=False)))
        found.append(session.run(StepPlan((), (Span(1, 1, 35, (9,), samples=True),), None))[0])
        session.close()
    assert 0 < np.sqrt(np.mean((found[0] - found[1]) ** 2)) < 0.1 * found[0].std()


def test_float32_is_not_for_cuda(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="choose --precision fp16"):
        pull_from(ArtifactStore(tmp_path), Wanted(MODEL, "fp32", CUDA), checkpoint)


# Starling-7B's shape: 131 kB of float16 keys and values a token.
@pytest.mark.parametrize(
    ("free", "precision", "kept", "advice"),
    [
        (80, "fp16", 16, None),
        (24, "int4", 16, None),
        (24, "fp16", None, "Type --rows 15, or a shorter --context, or pull the weights with --precision int4$"),
        (15.5, "int4", 1, None),
        (6.4, "int4", None, "Type --rows 1, or a shorter --context$"),
        (6, "int4", None, r"Type --rows 1 --context 1\d\d\d$"),
        (4, "int4", None, "Use --device cpu$"),
        (4, "fp16", None, "Use --device cpu, or pull the weights with --precision int4$"),
    ],
)
def test_the_estimate_for_a_7b(
    half: Artifact, free: float, precision: str, kept: int | None, advice: str | None
) -> None:
    manifest = half.manifest.model_copy(update={"shape": STARLING, "precision": precision})
    config, gpu = EngineConfig(), Gpu(0, "Stub", int(free * 1e9), int(free * 1e9))
    found = gpu_needs({"fp16": 14_500_000_000, "int4": 4_500_000_000}[precision], manifest, config)
    assert found.slot == 131_072 * 4096
    if advice is None:
        assert kept_that_fit(found, gpu, config, what="it", capacity=4096) == kept
        return
    with pytest.raises(DeviceFull, match=rf"{free:.1f} GB of {free:.1f} GB are free.*{advice}"):
        kept_that_fit(found, gpu, config, what="it", capacity=4096)


def test_a_long_text_on_a_steady_session_reads_as_elsewhere(half: Artifact) -> None:
    text = tuple(range(65, 105))
    steady = DecoderSession(half.decoder, slots=3, capacity=64, device=Device(), threads=1, steady=True)
    plain = DecoderSession(half.decoder, slots=3, capacity=64, device=Device(), threads=1)
    for session in (steady, plain):
        assert session.run(StepPlan((), (), Span(0, 0, 0, text[:20], samples=False))).shape[0] == 0
    for place in range(20, 40):
        ask = StepPlan((), (Span(0, 0, place, (text[place],), samples=True),), None)
        found, expected = steady.run(ask), plain.run(ask)
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * expected.std())
    steady.close()
    plain.close()
