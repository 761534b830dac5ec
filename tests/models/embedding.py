"""Cards of embedding models for tests, in words of our own, and tiny checkpoints for them."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from catalog import Catalog
from runtime.artifacts import Artifact
from tests.runtime.reference.tiny_encoders import write_encoder_checkpoint

CARDS = Path(__file__).with_name("embedders")
SMALL, WIDE, OLD, SCORES, PAIRS = (f"@cf/tests/embedder-{kind}" for kind in ("small", "wide", "old", "scores", "pairs"))


def embedders() -> Catalog:
    """The shipped cards and these."""
    return Catalog.load(CARDS)


def write_sentence_transformer(
    folder: Path, name: str = "bert", *, pooling: str = "cls", normalised: bool = True, longest: int | None = None
) -> Path:
    """A tiny encoder's checkpoint with the files that sentence-transformers has beside it."""
    write_encoder_checkpoint(folder, name)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalised else [])]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 64, **modes}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    return folder


def with_optimum_s_inputs(made: Artifact, folder: Path) -> Path:
    """The graph of ``made`` with a mask in place of lengths, as optimum's have it, beside its checkpoint's files."""
    model = onnx.load(made.folder / "encoder.onnx")
    graph, ids = model.graph, ["B", "S"]
    del graph.input[:]
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, ids)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    counted = helper.make_node("ReduceSum", ["attention_mask", "one"], ["counted"], keepdims=0)
    cast = helper.make_node("Cast", ["counted"], ["lengths"], to=TensorProto.INT32)
    nodes = [counted, cast, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder
