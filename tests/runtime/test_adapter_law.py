"""The same words under any load, with adapters: a row's bits depend on nothing but its own tokens and adapter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from runtime.adapter import PANEL, SCALE, Adapter
from runtime.artifacts import ArtifactStore
from runtime.errors import ArtifactError
from runtime.precision import PrecisionName
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from runtime.stand_in import find_stand_in
from tests.models.adapted import Floats, open_session, read, smollm2_adapter, tiny_adapter, write, write_tiny_decoder
from tests.runtime.reference.tiny_adapters import KINDS
from tests.runtime.reference.tiny_checkpoints import CHECKPOINTS, VOCAB

PROMPT, STEPS = 12, 4  # no chunk leaves one token alone, as the scheduler sees to


def tokens(seed: int, count: int = PROMPT + STEPS, vocab: int = VOCAB) -> list[int]:
    drawn: list[int] = np.random.RandomState(seed).randint(3, vocab, count).tolist()
    return drawn


def alone(session: DecoderSession, row: list[int], adapter: Adapter | None, chunk: int = PROMPT) -> Floats:
    """The logits of the last tokens of ``row``, each in a step of its own, the prompt read in chunks."""
    starts = range(0, PROMPT, chunk)
    for start in starts:
        read(session, row, start, min(start + chunk, PROMPT), adapter)
    return np.concatenate([write(session, [(place, row[place], adapter)]) for place in range(PROMPT, len(row))])


def together(session: DecoderSession, rows: list[tuple[list[int], Adapter | None]]) -> Floats:
    """The same for several rows, whose tokens share their steps: logits [rows, steps, vocab]."""
    for place, (row, adapter) in enumerate(rows):
        read(session, row, 0, PROMPT, adapter, row=place)
    steps = [write(session, [(at, row[at], adapter) for row, adapter in rows]) for at in range(PROMPT, PROMPT + STEPS)]
    return np.stack(steps, axis=1)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_rows_without_an_adapter_keep_their_bits(name: str, precision: PrecisionName, tmp_path: Path) -> None:
    session = open_session(write_tiny_decoder(tmp_path, name, precision))
    before = alone(session, tokens(1), None)
    adapter = tiny_adapter(tmp_path, name, "all")
    adapted = alone(session, tokens(1), adapter)
    assert not np.array_equal(adapted, before)
    assert np.array_equal(alone(session, tokens(1), None), before)
    assert np.array_equal(together(session, [(tokens(2), adapter), (tokens(1), None)])[1], before)
    session.close()


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_rows_without_an_adapter_stay_the_same_within_an_adapted_half_graph(name: str, tmp_path: Path) -> None:
    """Before and after differ in the last bits: where the CPU lacks a kernel, the neighbours decide what is rounded."""
    session = open_session(write_tiny_decoder(tmp_path, name, "fp16"))
    before, adapter = alone(session, tokens(1), None), tiny_adapter(tmp_path, name, "all", np.float16)
    adapted = alone(session, tokens(2), adapter)
    after = alone(session, tokens(1), None)
    np.testing.assert_allclose(after, before, rtol=0, atol=0.01)
    found = together(session, [(tokens(2), adapter), (tokens(1), None)])
    assert np.array_equal(found, [adapted, after])
    session.close()


@pytest.fixture(scope="module", params=["llama", "phi3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(request.param)


@pytest.fixture(scope="module")
def session(folder: Path) -> Iterator[DecoderSession]:
    session = open_session(write_tiny_decoder(folder, folder.name[:-1], "int4"), threads=2)
    yield session
    session.close()


@pytest.fixture(scope="module")
def adapters(folder: Path) -> list[Adapter | None]:
    return [*(tiny_adapter(folder, folder.name[:-1], kind) for kind in KINDS), None]


@pytest.fixture(scope="module")
def lone(session: DecoderSession, adapters: list[Adapter | None]) -> list[list[Floats]]:
    """What each of some rows has alone, with each adapter."""
    return [[alone(session, tokens(row), adapter) for adapter in adapters] for row in range(3)]


mixes = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(mixes)
def test_whoever_shares_a_step_changes_no_bit(
    session: DecoderSession,
    adapters: list[Adapter | None],
    lone: list[list[Floats]],
    mix: list[tuple[int, int]],
) -> None:
    found = together(session, [(tokens(row), adapters[who]) for row, who in mix])
    assert all(np.array_equal(found[place], lone[row][who]) for place, (row, who) in enumerate(mix))


@pytest.mark.parametrize("chunk", [2, 3, 5, 7])
def test_chunks_change_no_bit(
    session: DecoderSession, adapters: list[Adapter | None], lone: list[list[Floats]], chunk: int
) -> None:
    for who, adapter in enumerate(adapters):
        assert np.array_equal(alone(session, tokens(0), adapter, chunk), lone[0][who])


def test_a_reloaded_adapter_is_the_same(
    session: DecoderSession, adapters: list[Adapter | None], lone: list[list[Floats]]
) -> None:
    assert adapters[0] is not None
    again = replace(adapters[0], serial=10**9 + 1)
    assert np.array_equal(alone(session, tokens(0), again), lone[0][0])


def test_an_adapter_that_overflows_harms_itself_alone(
    session: DecoderSession, adapters: list[Adapter | None], lone: list[list[Floats]]
) -> None:
    assert adapters[0] is not None
    huge = {name: (np.full_like(a, 1e38), np.full_like(b, 1e38)) for name, (a, b) in adapters[0].factors.items()}
    broken = replace(adapters[0], factors=huge, serial=10**9)
    found = together(session, [(tokens(0), None), (tokens(1), broken), (tokens(2), adapters[1])])
    assert not np.isfinite(found[1]).all()
    assert np.array_equal(found[0], lone[0][3])
    assert np.array_equal(found[2], lone[2][1])


def test_a_graph_that_is_gone_leaves_the_session_as_it_was(tmp_path: Path) -> None:
    session = open_session(write_tiny_decoder(tmp_path, "llama", "int4"))
    before, adapter = alone(session, tokens(1), None), tiny_adapter(tmp_path, "llama", "qv")
    (tmp_path / "decoder.onnx").rename(tmp_path / "gone.onnx")
    with pytest.raises(ArtifactError, match=r"decoder\.onnx can't be read anew"):
        alone(session, tokens(1), adapter)
    assert np.array_equal(alone(session, tokens(1), None), before)
    session.close()


def test_a_lone_row_gets_a_companion_where_adapted_rows_need_one(tmp_path: Path) -> None:
    session = open_session(write_tiny_decoder(tmp_path, "llama", "int4"))
    adapter = tiny_adapter(tmp_path, "llama", "all")
    expected = alone(session, tokens(1), adapter)
    session._adapted_need_companion = True
    assert np.array_equal(alone(session, tokens(1), adapter), expected)
    session.close()


def test_graphs_of_others_take_no_adapters(arithmetic_decoder: Path) -> None:
    session = open_session(arithmetic_decoder)
    assert not session.takes_adapters
    session.close()


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize(("inputs", "outputs"), [(576, PANEL), (4096, PANEL), (16, 60), (96, 960), (128, 3072)])
def test_the_products_of_an_adapted_graph_give_a_row_the_same_bits_in_any_company(
    inputs: int, outputs: int, threads: int
) -> None:
    """The foundation of all the above, on shapes that tiny checkpoints haven't."""
    info = helper.make_tensor_value_info
    node = helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft", alpha=1 / SCALE)
    ends = [info(name, TensorProto.FLOAT, [None] * 3) for name in "xwy"]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "product", ends[:2], ends[2:])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    product = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    draw = np.random.RandomState(0)
    x, w = (draw.normal(0, 1, shape).astype(np.float32) for shape in ((3, 200, inputs), (3, inputs, outputs)))
    whole = product.run(None, {"x": x, "w": w})[0]
    for count in (2, 3, 7, 16, 17, 31, 64, 130):
        for group in range(3):
            few = product.run(None, {"x": x[group : group + 1, :count], "w": w[group : group + 1]})[0]
            assert np.array_equal(few[0], whole[group, :count])


@pytest.mark.weights
def test_smollm2_three_adapters_and_plain_rows_in_one_batch(tmp_path: Path) -> None:
    stand_in = find_stand_in(ArtifactStore())
    assert stand_in is not None
    session = open_session(stand_in.decoder, threads=2)
    adapters = [smollm2_adapter(tmp_path / str(seed), seed) for seed in range(3)]
    who: list[Adapter | None] = [adapters[0], None, adapters[1], adapters[2], adapters[1], None]
    rows = [(tokens(place, vocab=40_000), adapter) for place, adapter in enumerate(who)]
    plain = alone(session, rows[1][0], None)
    lone = [alone(session, row, adapter) for row, adapter in rows]
    assert np.array_equal(plain, lone[1])
    assert np.array_equal(together(session, rows), np.stack(lone))
    assert np.array_equal(together(session, rows[::-1]), np.stack(lone[::-1]))
    mixed = session.run(  # a chunk with one adapter beside rows with others
        StepPlan(
            (),
            tuple(
                Span(at, at, PROMPT, (row[PROMPT],), True, adapter=adapter)
                for at, (row, adapter) in enumerate(rows[::-1])
            ),
            Span(6, 6, 0, tuple(rows[0][0][:PROMPT]), samples=True, adapter=adapters[0]),
        )
    )
    assert np.array_equal(mixed[:6], np.stack([logits[0] for logits in lone[::-1]]))
    session.close()
