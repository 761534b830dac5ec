"""Reads an ONNX decoder's file without its weights: what goes in and out, where its cache is kept, what it is made of.

Knows no ONNX Runtime: whether the graph runs is found out by running it (runtime/open_decoder.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto, helper

from runtime.errors import ArtifactError
from runtime.graph_interface import GraphInterface, Sizes, TensorInfo, describe

_ATTENTION = "GroupQueryAttention"
_PAST_INPUTS, _COS_INPUT = (3, 4), 7
_WINDOW, _NO_WINDOW = "local_window_size", -1
_EIGHT_BITS = ("MatMulInteger", "DynamicQuantizeLinear", "QLinearMatMul", "DynamicQuantizeMatMul")
_FOUR_BITS = ("MatMulBnb4", "MatMulFpQ4")


class OnnxFile:
    """One ONNX file. Raises :class:`ArtifactError` in one sentence where it can't be read, or may not be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._model = onnx.load(path, load_external_data=False)
        except Exception as error:  # protobuf's and the system's
            raise ArtifactError(f"{path.name} is not a readable ONNX model: {str(error) or 'it is damaged'}") from error
        if not self._model.graph.output:
            raise ArtifactError(f"{path.name} is not a readable ONNX model: it computes nothing")
        self.data = sorted({_inside(name) for name in self._external()})
        """Names of the files beside it that hold weights."""

    def interface(self, sizes: Sizes) -> GraphInterface:
        """How the decoder is fed."""
        pairs = [pair for node in self._attention() for pair in _updated(node)]
        return describe(self.inputs(), self.outputs(), in_place=pairs, sizes=sizes)

    def inputs(self) -> list[TensorInfo]:
        """What it is fed."""
        constants = {tensor.name for tensor in self._model.graph.initializer}
        return [_tensor_info(value) for value in self._model.graph.input if value.name not in constants]

    def outputs(self) -> list[TensorInfo]:
        """What it gives."""
        return [_tensor_info(value) for value in self._model.graph.output]

    def windows(self) -> dict[str, int | None]:
        """By name of a layer's past keys: the sliding window in tokens of attention that states one, else ``None``."""
        return {_updated(node)[0][0]: _window(node) for node in self._attention() if _updated(node)}

    def set_windows(self, windows: Mapping[str, int]) -> None:
        """Write other sliding windows into the file, by name of the layer's past keys; weights stay as they are."""
        for node in self._attention():
            window = windows.get(_updated(node)[0][0]) if _updated(node) else None
            if window is not None:
                kept = [attribute for attribute in node.attribute if attribute.name != _WINDOW]
                del node.attribute[:]
                node.attribute.extend([*kept, helper.make_attribute(_WINDOW, window)])
        onnx.save(self._model, self.path)

    def positions(self) -> int | None:
        """How many positions the attention's table of rotations holds, if it has one."""
        tables = {node.input[_COS_INPUT] for node in self._attention() if len(node.input) > _COS_INPUT}
        rows = [tensor.dims[0] for tensor in self._model.graph.initializer if tensor.name in tables and tensor.dims]
        return min(rows, default=None)

    def precision(self) -> str:
        """``int4``, ``int8``, ``fp16`` or ``fp32``: how most of the matrices are kept."""
        kinds: Counter[str] = Counter()
        for node in self._nodes():
            if node.op_type == "MatMulNBits":
                bits = next((attribute.i for attribute in node.attribute if attribute.name == "bits"), 4)
                kinds[f"int{bits}"] += 1
            elif node.op_type in _FOUR_BITS:
                kinds["int4"] += 1
            elif node.op_type in _EIGHT_BITS:
                kinds["int8"] += 1
        if kinds:
            return kinds.most_common(1)[0][0]
        sizes: Counter[int] = Counter()
        for tensor in self._weights():
            sizes[tensor.data_type] += math.prod(tensor.dims)
        return "fp16" if sizes[TensorProto.FLOAT16] > sizes[TensorProto.FLOAT] else "fp32"

    def _attention(self) -> list[onnx.NodeProto]:
        return [node for node in self._model.graph.node if node.op_type == _ATTENTION]

    def _graphs(self) -> Iterator[onnx.GraphProto]:
        """The graph and those within its branches."""
        waiting = [self._model.graph]
        while waiting:
            graph = waiting.pop()
            yield graph
            for node in graph.node:
                for attribute in node.attribute:
                    waiting += [attribute.g] if attribute.HasField("g") else list(attribute.graphs)

    def _nodes(self) -> Iterator[onnx.NodeProto]:
        for graph in self._graphs():
            yield from graph.node
        for function in self._model.functions:
            yield from function.node

    def _weights(self) -> Iterator[onnx.TensorProto]:
        for graph in self._graphs():
            yield from graph.initializer
        for node in self._nodes():
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))

    def _external(self) -> Iterator[str]:
        for tensor in self._weights():
            if tensor.data_location == TensorProto.EXTERNAL:
                yield next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _inside(location: str) -> str:
    """``location`` if it is a plain name: weights never come from elsewhere than beside their graph."""
    plain = PurePosixPath(location).name == location == PureWindowsPath(location).name
    if not plain or location in ("", ".", ".."):
        raise ArtifactError(f"the graph's weights lie at {location!r}, outside its folder, which isn't allowed")
    return location


def _updated(node: onnx.NodeProto) -> list[tuple[str, str]]:
    """Keys' and values' past and present of one attention node, where it has both."""
    if len(node.input) <= max(_PAST_INPUTS) or len(node.output) < 3:
        return []
    return [(node.input[place], node.output[output]) for place, output in zip(_PAST_INPUTS, (1, 2), strict=True)]


def _window(node: onnx.NodeProto) -> int | None:
    stated = next((attribute.i for attribute in node.attribute if attribute.name == _WINDOW), _NO_WINDOW)
    return None if stated == _NO_WINDOW else int(stated)


def _tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    sizes = (size.dim_value if size.HasField("dim_value") else size.dim_param for size in tensor.shape.dim)
    if tensor.elem_type == TensorProto.UNDEFINED:
        return TensorInfo(value.name, "no tensor", tuple(sizes))
    if tensor.elem_type == TensorProto.BFLOAT16:  # numpy has no such type, and onnx names another in its place
        return TensorInfo(value.name, "bfloat16", tuple(sizes))
    return TensorInfo(value.name, str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), tuple(sizes))
