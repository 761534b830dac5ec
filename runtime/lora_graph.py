"""Makes a decoder's graph take low-rank adapters as inputs, several in one step. Knows no adapter and no session.

A product ``y = x W`` becomes ``y + x A B`` for the rows that have an adapter. An adapted graph's inputs beside the
decoder's own, for ``G`` adapters in a step, ``m`` places for the rows of each and ``P`` panels of 16 ranks:

``lora.{product}.a`` [G, P, inputs, 16] and ``lora.{product}.b`` [G, P * 16, outputs], floats, both scaled by
2; ``lora.rows`` int64 [G, 1, m, 2], the row and token of each place; ``lora.taken`` bool [G, 1, m, 1],
false at places that stand for nobody; ``lora.places`` int64 [B, S, 2], the adapter and place of each row's token. A
product without adapters in a step has ``P`` = 1 and, in place of 16 ranks, none.

Every choice here serves the law of the same words: a row's result must not depend on who else is there. ONNX Runtime's
matrix product cuts long sums where its number of columns and of threads says, but a product of 16 columns always in the
same places; a second factor of up to 128 rows is never cut; products scaled by a number other than 1 have no kernel of
their own for a single row (onnxruntime, core/mlas/lib/sgemm.cpp). Rows without an adapter get zeros, exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from runtime.adapter import SCALE
from runtime.errors import ArtifactError
from runtime.lora_inputs import PLACES, ROWS, TAKEN

PRODUCTS = {"qkv": "norm1", "o": "attended", "gate_up": "norm2", "down": "gated"}
"""The products of a layer, and what each reads."""
_ZERO, _JOINED = "lora.zero", "lora.joined"


def takes_adapters(model: Path) -> bool:
    """Whether ``model`` is a graph whose products :func:`with_adapters` finds: one that roost wrote."""
    graph = onnx.load(model, load_external_data=False).graph
    made = {name for node in graph.node for name in node.output}
    caches = [entry.name.split(".") for entry in graph.input if entry.name.startswith("past.")]
    layers = {cache[1] for cache in caches if len(cache) == 3}  # past.3.k
    wanted = {f"layer{layer}.{name}" for layer in layers for pair in PRODUCTS.items() for name in pair}
    return bool(layers) and wanted <= made and _float_type(graph) is not None


def with_adapters(model: Path, targets: Collection[str]) -> bytes:
    """The graph of ``model`` with inputs for adapters on ``targets``; its data file stays where it is.

    Raises :class:`ArtifactError` where the file is gone or damaged.
    """
    try:
        loaded = onnx.load(model, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"{model.name} can't be read anew: {error}") from error
    graph, nodes = loaded.graph, list[onnx.NodeProto]()
    floats = _float_type(graph)
    assert floats is not None  # as takes_adapters says
    for node in graph.node:
        nodes.append(node)
        layer, _, target = node.output[0].partition(".")
        if target in targets and layer.startswith("layer"):
            product = node.output[0]
            node.output[0] = f"{product}.base"
            nodes += _delta(product, f"{layer}.{PRODUCTS[target]}")
            graph.input.extend(_factors(product, target, floats))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info(ROWS, TensorProto.INT64, ["G", 1, "m", 2]))
    graph.input.append(helper.make_tensor_value_info(TAKEN, TensorProto.BOOL, ["G", 1, "m", 1]))
    graph.input.append(helper.make_tensor_value_info(PLACES, TensorProto.INT64, ["B", "S", 2]))
    zero = np.zeros((), helper.tensor_dtype_to_np_dtype(floats))
    graph.initializer.append(numpy_helper.from_array(zero, _ZERO))
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1], np.int64), _JOINED))
    whole: bytes = loaded.SerializeToString()
    return whole


def _delta(product: str, x: str) -> Iterator[onnx.NodeProto]:
    """``product`` = what it was + the low-rank product of each row's own adapter."""
    node, name = helper.make_node, f"lora.{product}"
    yield node("GatherND", [x, ROWS], [f"{name}.x"])  # [G, 1, m, inputs]
    yield _halved([f"{name}.x", f"{name}.a"], f"{name}.low")  # [G, P, m, 16]
    yield node("Where", [TAKEN, f"{name}.low", _ZERO], [f"{name}.own"])
    yield node("Transpose", [f"{name}.own"], [f"{name}.turned"], perm=[0, 2, 1, 3])
    yield node("Reshape", [f"{name}.turned", _JOINED], [f"{name}.ranks"])  # [G, m, P * 16]
    yield _halved([f"{name}.ranks", f"{name}.b"], f"{name}.high")  # [G, m, outputs]
    yield node("GatherND", [f"{name}.high", PLACES], [f"{name}.delta"])  # [B, S, outputs]
    yield node("Add", [f"{product}.base", f"{name}.delta"], [product])


def _halved(inputs: list[str], output: str) -> onnx.NodeProto:
    return helper.make_node("FusedMatMul", inputs, [output], domain="com.microsoft", alpha=1 / SCALE)


def _factors(product: str, target: str, floats: int) -> list[onnx.ValueInfoProto]:
    info, inputs, outputs = helper.make_tensor_value_info, f"{target}.inputs", f"{target}.outputs"
    return [
        info(f"lora.{product}.a", floats, [None, None, inputs, None]),
        info(f"lora.{product}.b", floats, [None, None, outputs]),
    ]


def _float_type(graph: onnx.GraphProto) -> int | None:
    """The type of what flows between the nodes, which is that of the rotary tables."""
    return next((tensor.data_type for tensor in graph.initializer if tensor.name == "rope.cos"), None)
