"""Decoders that others exported compute what transformers computes, and keep the engine's law of the same words."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from runtime.artifacts import Artifact, ArtifactStore, artifact_key
from runtime.build import Origin
from runtime.concat_session import ConcatSession
from runtime.device import Device
from runtime.errors import ArtifactError
from runtime.masked_session import MaskedSession
from runtime.open_decoder import open_decoder
from runtime.pool import Pool
from runtime.pull_foreign import keep_exported
from runtime.pull_model import Wanted, pull_from
from runtime.scheduler import Move, Release, Span, StepPlan
from tests.runtime.reading import (
    LENGTH,
    Floats,
    Reference,
    check_at_once,
    check_engine,
    check_in_chunks,
    check_ragged_batch,
    read,
)
from tests.runtime.reference.tiny_foreign import CONTEXT, FOLDER, LOGITS, WINDOW

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
EXACT = {"gpt2": "gpt2", "genai_fp32": "mistral"}
"""Graphs in float32, and the checkpoint that each was made of."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graphs of the repository, a folder each, as their tools wrote them."""
    folder = tmp_path_factory.mktemp("foreign")
    for path in FOLDER.glob("*.tar.xz"):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
    return folder


def pulled(folder: Path, root: Path) -> Artifact:
    return pull_from(ArtifactStore(root), Wanted(MODEL), folder)


def opened(made: Artifact, *, slots: int = 3) -> MaskedSession | ConcatSession:
    assert made.manifest.context == CONTEXT
    session = open_decoder(
        made.decoder, made.manifest.interface, slots=slots, capacity=CONTEXT, device=Device(), threads=1
    )
    assert isinstance(session, MaskedSession | ConcatSession)
    return session


@pytest.fixture(scope="module", params=EXACT)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def reference(name: str) -> Reference:
    return Reference(LOGITS, EXACT[name])


@pytest.fixture(scope="module")
def made(name: str, unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return pulled(unpacked / name, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def session(made: Artifact) -> Iterator[MaskedSession | ConcatSession]:
    session = opened(made)
    yield session
    session.close()


def test_logits_of_a_prompt_at_once(session: MaskedSession | ConcatSession, reference: Reference) -> None:
    check_at_once(session, reference)


@pytest.mark.parametrize("size", [5, 16, 50])
def test_logits_of_a_prompt_in_chunks(session: MaskedSession | ConcatSession, reference: Reference, size: int) -> None:
    check_in_chunks(session, reference, size)


def test_greedy_tokens_of_a_ragged_batch(session: MaskedSession | ConcatSession, reference: Reference) -> None:
    check_ragged_batch(session, reference)


def test_the_engine_says_what_transformers_says(made: Artifact, reference: Reference) -> None:
    check_engine(opened(made, slots=5), reference)


def as_read(session: MaskedSession | ConcatSession, tokens: list[int], bounds: tuple[int, ...]) -> list[Floats]:
    """Bit for bit: a prompt read in chunks with these bounds, then two steps."""
    start = 0
    for bound in bounds:
        logits = (
            read(session, tokens, start, bound) if bound == bounds[-1] else _silently(session, tokens, start, bound)
        )
        start = bound
    found = [logits]
    for place in (start, start + 1):
        span = Span(0, 0, place, (tokens[place],), samples=True)
        found.append(session.run(StepPlan((), (span,), None))[0])
    session.run(StepPlan((Release(0),), (), Span(9, 0, 0, (1, 2), samples=False)))
    return found


def _silently(session: MaskedSession | ConcatSession, tokens: list[int], start: int, end: int) -> Floats:
    return session.run(StepPlan((), (), Span(0, 0, start, tuple(tokens[start:end]), samples=False)))


@pytest.mark.parametrize("bounds", [(80,), (7, 80), (64, 80), (2, 4, 66, 68, 80), (63, 65, 80)])
def test_no_bit_depends_on_how_a_prompt_is_cut(made: Artifact, reference: Reference, bounds: tuple[int, ...]) -> None:
    session = opened(made)
    whole, cut = (as_read(session, reference.rows[-1], each) for each in ((80,), bounds))
    session.close()
    assert all(np.array_equal(one, other) for one, other in zip(whole, cut, strict=True))


def test_no_bit_depends_on_what_was_kept(made: Artifact, reference: Reference) -> None:
    session, tokens = opened(made), reference.rows[-1]
    read(session, [*tokens[:70], *tokens[:10]], 0, 80, row=2)
    kept = session.run(StepPlan((Move(2, 0, 70),), (), Span(0, 0, 70, tuple(tokens[70:80]), samples=True)))[0]
    alone = read(session, tokens, 0, 80, row=1)
    session.close()
    assert np.array_equal(kept, alone)


def test_what_is_given_back_is_no_longer_held(unpacked: Path, tmp_path: Path) -> None:
    session = opened(pulled(unpacked / "gpt2", tmp_path))
    assert isinstance(session, ConcatSession)
    read(session, [1] * 100, 0, 100)
    session.run(StepPlan((Move(0, 1, 40), Release(1, 40)), (), Span(0, 0, 100, (1,), samples=False)))
    assert session._rows[1].cache[0].shape()[2] == 40
    session.run(StepPlan((Release(0), Release(1)), (), Span(0, 2, 0, (1, 2), samples=False)))
    assert set(session._rows) == {2}
    session.close()


def test_an_artifact_says_what_it_is(made: Artifact, name: str) -> None:
    manifest = made.manifest
    assert (manifest.exporter, manifest.precision, manifest.weights) == ("elsewhere", "fp32", name)
    assert manifest.interface is not None
    assert manifest.interface.layout == {"gpt2": "concat", "genai_fp32": "in_place"}[name]
    assert 257 in manifest.stop_tokens


def test_four_bits_stay_near_the_checkpoint_and_rows_don_t_meet(unpacked: Path, tmp_path: Path) -> None:
    """The builder's own rounding of random weights loses much; what is wrong loses more than the logits' spread."""
    made, reference = pulled(unpacked / "genai_int4", tmp_path), Reference(LOGITS, "mistral")
    assert made.manifest.precision == "int4"
    assert made.manifest.interface is not None
    assert made.manifest.interface.last_only
    session = opened(made)
    rows = [row[:LENGTH] for row in reference.rows]
    found = np.stack([read(session, rows[-1], at, at + 1) for at in range(LENGTH)])
    assert np.sqrt(np.mean((found - reference.logits) ** 2)) < 0.6 * reference.logits.std()
    for place, row in enumerate(rows):
        read(session, row, 0, 40 + place, row=place)
    spans = tuple(Span(place, place, 40 + place, (row[40 + place],), samples=True) for place, row in enumerate(rows))
    together = session.run(StepPlan((), spans, None))
    alone = np.concatenate([_in_slot_0(session, row, 40 + place) for place, row in enumerate(rows)])
    session.close()
    assert np.array_equal(together, alone)


def _in_slot_0(session: MaskedSession | ConcatSession, row: list[int], end: int) -> Floats:
    read(session, row, 0, end)
    return session.run(StepPlan((), (Span(0, 0, end, (row[end],), samples=True),), None))


def drop_windows(graph: Path, window: int = -1) -> None:
    """What onnxruntime-genai 0.18 does to Mistral."""
    model = onnx.load(graph, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "local_window_size":
                attribute.i = window
    onnx.save(model, graph)


def test_a_dropped_window_is_put_back(unpacked: Path, tmp_path: Path) -> None:
    copied = copy_of(unpacked / "genai_fp32", tmp_path / "Mistral")
    drop_windows(copied / "model.onnx")
    (copied / "config.json").write_bytes((FOLDER / "mistral_config.json").read_bytes())
    session = opened(pulled(copied, tmp_path / "cache"))
    check_ragged_batch(session, Reference(LOGITS, "mistral"))
    session.close()


def test_another_window_is_refused(unpacked: Path, tmp_path: Path) -> None:
    copied = copy_of(unpacked / "genai_fp32", tmp_path / "Mistral")
    drop_windows(copied / "model.onnx", WINDOW + 1)
    (copied / "config.json").write_bytes((FOLDER / "mistral_config.json").read_bytes())
    with pytest.raises(ArtifactError, match=r"layer 0 of the graph has a window of 17 tokens, config\.json says 16"):
        pulled(copied, tmp_path / "cache")


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


async def test_what_another_task_needs_is_kept_and_writes_no_text(unpacked: Path, tmp_path: Path) -> None:
    store, exported = ArtifactStore(tmp_path / "cache"), copy_of(unpacked / "gpt2", tmp_path / "exported")
    origin = Origin(artifact_key(MODEL), "Tiny", "Tiny", "0" * 64, MODEL, exporter="optimum")
    made = keep_exported(store, origin, exported, "text-classification", lambda *_now: None, exported)
    assert (made.manifest.task, made.manifest.precision) == ("text-classification", "fp32")
    assert set(made.manifest.files) >= {"model.onnx", "config.json", "tokenizer.json"}
    assert store.all() == [made]
    with pytest.raises(
        ArtifactError, match="Tiny is here for text-classification, and can't be used for text-generation"
    ):
        await Pool(store).get(MODEL)
