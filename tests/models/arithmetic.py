"""A tiny real ONNX decoder whose next token is a closed form of what its KV cache holds.

Each position's key holds its token and each value the position's weight, written into the cache in place, with the
decoder's own inputs and outputs (see runtime/decoder_graph.py). The next token sums them over the cache:

    next = (OFFSET + sum over cached p of token[p] * (p + 1)) mod VOCAB

so that a stale, missing, misplaced or foreign entry anywhere in the cache is a wrong integer. The idea is that of
ONNX Runtime GenAI's synthetic paged model. All values stay below 2**24, so float32 holds them exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCAB = 97
OFFSET = 7
_INT64, _INT32, _FLOAT = TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT


def next_token(tokens: Sequence[int]) -> int:
    """The token that follows ``tokens``: the oracle."""
    return (OFFSET + sum(token * (place + 1) for place, token in enumerate(tokens))) % VOCAB


def continuation(prompt: Sequence[int], count: int, stop: frozenset[int] = frozenset()) -> list[int]:
    """The greedy continuation of ``prompt``: ``count`` tokens, or up to the first in ``stop``."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
        if tokens[-1] in stop:
            break
    return tokens[len(prompt) :]


def write_arithmetic_decoder(path: Path, *, fails_at: int = VOCAB, starves_at: int = VOCAB) -> Path:
    """Write the decoder to ``path``, which is returned.

    A step with the token ``fails_at`` among its inputs raises in ONNX Runtime, one with ``starves_at`` asks for more
    memory than a machine can address; by default no token is either.
    """
    constants = [*_constants(), *_traps(fails_at, starves_at)]
    graph = helper.make_graph(_nodes(), "arithmetic", _inputs(), _outputs(), initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _inputs() -> list[onnx.ValueInfoProto]:
    info = helper.make_tensor_value_info
    named = [info("input_ids", _INT64, ["B", "S"]), info("seqlens_k", _INT32, ["B"])]
    named += [info("total_seq", _INT32, []), info("logit_idx", _INT64, ["n"])]
    return named + [info(f"past.0.{side}", _FLOAT, ["B", 1, "T", 1]) for side in "kv"]


def _outputs() -> list[onnx.ValueInfoProto]:
    info = helper.make_tensor_value_info
    return [
        info("logits", _FLOAT, ["n", VOCAB]),
        *(info(f"present.0.{side}", _FLOAT, ["B", 1, "T", 1]) for side in "kv"),
    ]


def _constants() -> list[onnx.TensorProto]:
    values = {
        "zero": np.int64(0),
        "one": np.int64(1),
        "axis1": np.array([1], np.int64),
        "last": np.array([-1], np.int64),
        "offset": np.float32(OFFSET),
        "vocab": np.int64(VOCAB),
        "on_off": np.array([0, 1], np.float32),
        "flat": np.array([-1, VOCAB], np.int64),
        "flat_cache": np.array([0, -1], np.int64),
    }
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def _traps(fails_at: int, starves_at: int) -> list[onnx.TensorProto]:
    values = {"fails_at": fails_at, "starves_at": starves_at, "nowhere": 1 << 30, "too_much": 1 << 50}
    return [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in values.items()]


def _nodes() -> list[onnx.NodeProto]:
    return [*_positions(), *_write_cache(), *_read_cache(), *_logits(), *_trapped()]


def _trapped() -> list[onnx.NodeProto]:
    """``logits`` = ``told`` plus nothing, read at an index that is out of bounds at one token, from a giant at another.

    By then the step has written its tokens into the cache.
    """
    node = helper.make_node
    return [
        node("Equal", ["input_ids", "fails_at"], ["fails"]),
        node("Cast", ["fails"], ["fails_int"], to=_INT64),
        node("ReduceMax", ["fails_int"], ["failing"], keepdims=0),
        node("Mul", ["failing", "nowhere"], ["trap"]),
        node("Gather", ["on_off", "trap"], ["trapped"], axis=0),
        node("Equal", ["input_ids", "starves_at"], ["starves"]),
        node("Cast", ["starves"], ["starves_int"], to=_INT64),
        node("ReduceMax", ["starves_int"], ["starving"], keepdims=0),
        node("Mul", ["starving", "too_much"], ["surplus"]),
        node("Add", ["surplus", "axis1"], ["size"]),
        node("ConstantOfShape", ["size"], ["giant"]),
        node("Gather", ["giant", "zero"], ["nought"]),
        node("Add", ["told", "trapped"], ["told_on"]),
        node("Add", ["told_on", "nought"], ["logits"]),
    ]


def _positions() -> list[onnx.NodeProto]:
    """``position`` [B, S]: where each input token stands in its row."""
    node = helper.make_node
    return [
        node("Shape", ["input_ids"], ["shape"]),
        node("Gather", ["shape", "one"], ["S"]),
        node("Gather", ["shape", "zero"], ["B"]),
        node("Cast", ["seqlens_k"], ["last_position"], to=_INT64),
        node("Unsqueeze", ["last_position", "axis1"], ["last_column"]),
        node("Sub", ["last_column", "S"], ["before_first"]),
        node("Add", ["S", "one"], ["S_plus_one"]),
        node("Range", ["one", "S_plus_one", "one"], ["steps"]),
        node("Add", ["before_first", "steps"], ["position"]),
    ]


def _write_cache() -> list[onnx.NodeProto]:
    """``present`` = ``past`` with the tokens, and their weights, at their positions."""
    node = helper.make_node
    nodes = [
        node("Range", ["zero", "B", "one"], ["rows"]),
        node("Unsqueeze", ["rows", "axis1"], ["row_column"]),
        node("Expand", ["row_column", "shape"], ["row"]),
        node("Mul", ["row", "zero"], ["head"]),
    ]
    parts = ("row", "head", "position", "head")
    nodes += [node("Unsqueeze", [part, "last"], [f"index{place}"]) for place, part in enumerate(parts)]
    nodes += [
        node("Concat", [f"index{place}" for place in range(len(parts))], ["index"], axis=-1),
        node("Cast", ["input_ids"], ["token"], to=_FLOAT),
        node("Add", ["position", "one"], ["weight_int"]),
        node("Cast", ["weight_int"], ["weight"], to=_FLOAT),
        node("ScatterND", ["past.0.k", "index", "token"], ["present.0.k"]),
        node("ScatterND", ["past.0.v", "index", "weight"], ["present.0.v"]),
    ]
    return nodes


def _read_cache() -> list[onnx.NodeProto]:
    """``total`` [B, S]: the sum of token times weight over the cache up to each position."""
    node = helper.make_node
    return [
        node("Reshape", ["present.0.k", "flat_cache"], ["keys"]),
        node("Reshape", ["present.0.v", "flat_cache"], ["values"]),
        node("Mul", ["keys", "values"], ["products"]),
        node("Shape", ["keys"], ["cache_shape"]),
        node("Gather", ["cache_shape", "one"], ["T"]),
        node("Range", ["zero", "T", "one"], ["places"]),
        node("Unsqueeze", ["position", "last"], ["position_column"]),
        node("LessOrEqual", ["places", "position_column"], ["visible"]),
        node("Unsqueeze", ["products", "axis1"], ["products_row"]),
        node("Sub", ["products_row", "products_row"], ["nothing"]),
        node("Where", ["visible", "products_row", "nothing"], ["seen"]),
        node("ReduceSum", ["seen", "last"], ["total"], keepdims=0),
    ]


def _next_token() -> list[onnx.NodeProto]:
    """``next`` [B, S]."""
    node = helper.make_node
    return [
        node("Add", ["total", "offset"], ["shifted"]),
        node("Cast", ["shifted"], ["whole"], to=_INT64),
        node("Mod", ["whole", "vocab"], ["next"]),
    ]


def _logits() -> list[onnx.NodeProto]:
    """A one-hot row for each wanted position."""
    node = helper.make_node
    return [
        *_next_token(),
        node("OneHot", ["next", "vocab", "on_off"], ["hot"], axis=-1),
        node("Reshape", ["hot", "flat"], ["flat_hot"]),
        node("Gather", ["flat_hot", "logit_idx"], ["told"], axis=0),
    ]
