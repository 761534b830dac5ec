"""Writes ONNX graphs whose large initialisers go straight to a data file. Knows no model.

Operators are ONNX Runtime's own (com.microsoft) beside the standard ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from runtime.config import DecoderShape

_EXTERNAL_FROM = 1024  # bytes; smaller initialisers stay inside the model file
_PAGE = 4096  # external tensors start on a page so that they can be mapped


@dataclass
class GraphWriter:
    """Nodes and initialisers of a graph in the making; large initialisers go straight to the data file.

    ``half``: float32 constants become float16, and so do the KV cache and whatever flows between the nodes.
    """

    data: BinaryIO
    location: str
    half: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add an initialiser once under ``name``, which is returned for use as an input."""
        if name not in self._names:
            self._names.add(name)
            with np.errstate(over="raise"):  # a float32 beyond float16 is no constant to write
                values = np.ascontiguousarray(values, self._stored_as(values.dtype))
            tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(values.dtype), dims=values.shape)
            if values.nbytes >= _EXTERNAL_FROM:
                self._point(tensor, self._store(values), values.nbytes)
            else:
                tensor.raw_data = values.tobytes()
            self.initializers.append(tensor)
        return name

    def alias(self, name: str, of: str, shape: tuple[int, ...]) -> str:
        """Add ``name`` over the bytes of the external initialiser ``of``, seen in another shape."""
        original = next(tensor for tensor in self.initializers if tensor.name == of)
        place = {entry.key: int(entry.value) for entry in original.external_data if entry.key != "location"}
        tensor = TensorProto(name=name, data_type=original.data_type, dims=shape)
        self._point(tensor, place["offset"], place["length"])
        self.initializers.append(tensor)
        return name

    def op(self, kind: str, inputs: Sequence[str], *, name: str, outputs: Sequence[str] = (), **attrs: Any) -> str:
        """Add a node of the standard operators; its first output's name is returned."""
        return self._node("", kind, inputs, name, outputs, attrs)

    def microsoft(
        self, kind: str, inputs: Sequence[str], *, name: str, outputs: Sequence[str] = (), **attrs: Any
    ) -> str:
        """Add a node of ONNX Runtime's own operators; its first output's name is returned."""
        return self._node("com.microsoft", kind, inputs, name, outputs, attrs)

    def model(self, shape: DecoderShape) -> onnx.ModelProto:
        """A decoder's finished model."""
        info = helper.make_tensor_value_info
        cache: list[str | int | None] = ["B", shape.kv_heads, "T", shape.head_dim]
        inputs = [
            info("input_ids", TensorProto.INT64, ["B", "S"]),
            info("seqlens_k", TensorProto.INT32, ["B"]),
            info("total_seq", TensorProto.INT32, []),
            info("logit_idx", TensorProto.INT64, ["n"]),
        ]
        kept = TensorProto.FLOAT16 if self.half else TensorProto.FLOAT
        outputs = [info("logits", TensorProto.FLOAT, ["n", shape.vocab])]
        for layer in range(shape.layers):
            for side in "kv":
                inputs.append(info(f"past.{layer}.{side}", kept, cache))
                outputs.append(info(f"present.{layer}.{side}", kept, cache))
        return self.whole("decoder", inputs, outputs)

    def whole(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished model of any graph. Opset 21 and IR 10 are what every supported ONNX Runtime reads."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, initializer=self.initializers)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="roost")

    def _node(
        self,
        domain: str,
        kind: str,
        inputs: Sequence[str],
        name: str,
        outputs: Sequence[str],
        attrs: dict[str, Any],
    ) -> str:
        outputs = outputs or [name]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attrs))
        return outputs[0]

    def _stored_as(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(np.float16) if self.half and dtype == np.float32 else dtype

    def _store(self, values: NDArray[Any]) -> int:
        self.data.write(b"\0" * (-self.data.tell() % _PAGE))
        offset = self.data.tell()
        self.data.write(values.data.cast("B"))
        return offset

    def _point(self, tensor: TensorProto, offset: int, length: int) -> None:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
