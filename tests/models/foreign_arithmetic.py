"""The arithmetic decoder as others would export it: masks and positions, logits of every position, their names.

Its cache grows by concatenation or, with ``in_place``, is written where it lies; the closed form is that of
tests/models/arithmetic.py, so that a wrong position, mask, length or entry is a wrong integer.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from runtime.graph_interface import GraphInterface, Sizes
from runtime.onnx_file import OnnxFile
from tests.models import arithmetic
from tests.models.arithmetic import VOCAB

_INT64, _FLOAT, _BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL
_PAIRS = {f"past_key_values.0.{side}": f"present.0.{side}" for side in ("key", "value")}


def write_foreign_decoder(
    path: Path, *, in_place: bool = False, branch: bool = False, keep: bool = False, last_only: bool = False
) -> GraphInterface:
    """Write the decoder to ``path``: its interface, as read from the file.

    ``branch``: two graphs merged into one, the first of which ignores the cache. ``keep``: it is told how many logits
    are wanted. ``last_only``: it gives the last position's alone.
    """
    nodes = [*(_in_place() if in_place else _concatenated(branch=branch)), *arithmetic._read_cache(), *_logits()]
    if keep or last_only:
        wanted = "num_logits_to_keep" if keep else "one"
        nodes += [
            helper.make_node("Neg", [wanted], ["from_end"]),
            helper.make_node("Unsqueeze", ["from_end", "zero_axis"], ["starts"]),
            helper.make_node("Slice", ["every", "starts", "far", "axis1"], ["logits"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["every"], ["logits"]))
    inputs = _inputs(positions=not in_place, branch=branch, keep=keep)
    graph = helper.make_graph(nodes, "foreign", inputs, _outputs(last_only=last_only), initializer=_constants())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    interface = OnnxFile(path).interface(Sizes())
    # What is not GroupQueryAttention isn't trusted to write where it reads; ScatterND does.
    return replace(interface, layout="in_place") if in_place else interface


def _inputs(*, positions: bool, branch: bool, keep: bool) -> list[onnx.ValueInfoProto]:
    info = helper.make_tensor_value_info
    named = [info("input_ids", _INT64, ["batch", "length"]), info("attention_mask", _INT64, ["batch", "total"])]
    named += [info(past, _FLOAT, ["batch", 1, "past", 1]) for past in reversed(_PAIRS)]
    named += [info("position_ids", _INT64, ["batch", "length"])] if positions else []
    named += [info("use_cache_branch", _BOOL, [1])] if branch else []
    return named + ([info("num_logits_to_keep", _INT64, [])] if keep else [])


def _outputs(*, last_only: bool) -> list[onnx.ValueInfoProto]:
    info = helper.make_tensor_value_info
    logits = info("logits", _FLOAT, ["batch", 1 if last_only else "length", VOCAB])
    return [logits, *(info(present, _FLOAT, ["batch", 1, "total", 1]) for present in _PAIRS.values())]


def _constants() -> list[onnx.TensorProto]:
    tensor = helper.make_tensor
    more = [tensor("zero_axis", _INT64, [1], [0]), tensor("far", _INT64, [1], [2**31])]
    return [*arithmetic._constants(), *more, tensor("axes13", _INT64, [2], [1, 3])]


def _concatenated(*, branch: bool) -> list[onnx.NodeProto]:
    """``present`` = ``past`` with the new tokens, and their weights, behind it."""
    node = helper.make_node
    nodes = [
        node("Identity", ["position_ids"], ["position"]),
        node("Cast", ["input_ids"], ["token"], to=_FLOAT),
        node("Add", ["position_ids", "one"], ["weight_int"]),
        node("Cast", ["weight_int"], ["weight"], to=_FLOAT),
    ]
    for (past, present), values, short in zip(_PAIRS.items(), ("token", "weight"), "kv", strict=True):
        nodes.append(node("Unsqueeze", [values, "axes13"], [f"new.{short}"]))
        if branch:
            nodes.append(_branches(past, f"new.{short}", f"all.{short}"))
        else:
            nodes.append(node("Concat", [past, f"new.{short}"], [f"all.{short}"], axis=2))
        nodes.append(node("Identity", [f"all.{short}"], [present]))
    # What the mask leaves out counts for nothing, so that a mask too short or of other rows shows.
    nodes += [
        node("Cast", ["attention_mask"], ["mask"], to=_FLOAT),
        node("Unsqueeze", ["mask", "axes13"], ["mask4"]),
        node("Mul", ["all.k", "mask4"], ["present.0.k"]),
        node("Identity", ["all.v"], ["present.0.v"]),
    ]
    return nodes


def _branches(past: str, new: str, result: str) -> onnx.NodeProto:
    """As optimum's merged decoders have it: one branch for a first step, whose past means nothing, one for others."""
    info = helper.make_tensor_value_info
    parts = {
        "then_branch": helper.make_node("Concat", [past, new], [f"{result}.more"], axis=2),
        "else_branch": helper.make_node("Identity", [new], [f"{result}.first"]),
    }
    first, more = (
        helper.make_graph([parts[name]], name, [], [info(parts[name].output[0], _FLOAT, None)])
        for name in ("else_branch", "then_branch")
    )
    return helper.make_node("If", ["use_cache_branch"], [result], then_branch=more, else_branch=first)


def _in_place() -> list[onnx.NodeProto]:
    """Lengths from the mask, then what our own decoder does."""
    node = helper.make_node
    named = zip(_PAIRS.items(), "kv", strict=True)
    aliases = [
        alias
        for (past, present), short in named
        for alias in (
            node("Identity", [past], [f"past.0.{short}"]),
            node("Identity", [f"present.0.{short}"], [present]),
        )
    ]
    lengths = [
        node("ReduceSum", ["attention_mask", "axis1"], ["lengths"], keepdims=0),
        node("Sub", ["lengths", "one"], ["seqlens_k"]),
    ]
    return [aliases[0], aliases[2], *lengths, *arithmetic._positions(), *arithmetic._write_cache(), *aliases[1::2]]


def _logits() -> list[onnx.NodeProto]:
    """A one-hot row for every position."""
    return [*arithmetic._next_token(), helper.make_node("OneHot", ["next", "vocab", "on_off"], ["every"], axis=-1)]
