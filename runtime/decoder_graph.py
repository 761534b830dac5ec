"""Writes a Llama-family decoder as an ONNX model with an in-place KV cache. Knows no file format of weights.

Inputs: ``input_ids`` int64 [B, S]; ``seqlens_k`` int32 [B], a row's tokens in the cache after the step, less one;
``total_seq`` int32 [], the largest of those counts; ``logit_idx`` int64 [n], positions of the flattened [B*S] whose
logits are wanted (n may be 0); ``past.{i}.k|v`` float32 [B, kv_heads, T, head_dim].
Outputs: ``logits`` float32 [n, vocab]; ``present.{i}.k|v`` of the pasts' shape, to be bound to the same memory.

Operators are ONNX Runtime's (com.microsoft: GroupQueryAttention, MatMulNBits, SkipSimplifiedLayerNormalization).
Asymmetric 4-bit blocks run as a symmetric product plus one over the blocks' sums, which is exact and keeps the
packed kernel, where float zero points would dequantise the matrix at every call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from runtime.config import DecoderShape
from runtime.quantization import BLOCK, Dense, Floats, Int4, Int8, Matrix, stack

_EXTERNAL_FROM = 1024  # bytes; smaller initialisers stay inside the model file
_Attributes = dict[str, Any]
_HEAD_INPUT = "final_norm"
_PAGE = 4096  # external tensors start on a page so that they can be mapped


class DecoderWeights(Protocol):
    """Where a decoder's tensors come from; each is asked for once, in order."""

    @property
    def shape(self) -> DecoderShape: ...  # noqa: D102
    def linear(self, layer: int, part: str) -> Matrix: ...  # noqa: D102
    def norm(self, layer: int, part: str) -> Floats: ...  # noqa: D102
    def final_norm(self) -> Floats: ...  # noqa: D102
    def embedding(self) -> Matrix: ...  # noqa: D102
    def head(self) -> Matrix | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Precision:
    """How the graph computes. ``accuracy_level`` is MatMulNBits': 4 rounds activations to int8, 1 keeps float32.

    ``float_int8``: products with 8-bit matrices run as float32 ones, for they know no level but 4.
    """

    accuracy_level: int = 4
    float_int8: bool = False


SERVED = Precision()
EXACT = Precision(accuracy_level=1, float_int8=True)


def write_decoder(path: Path, weights: DecoderWeights, precision: Precision = SERVED) -> None:
    """Write ``path`` and ``path`` + ``.data``, holding one layer's tensors in memory at a time."""
    with path.with_name(path.name + ".data").open("wb") as data:
        writer = _GraphWriter(data, path.name + ".data")
        _Decoder(writer, weights, precision).build()
    onnx.save(writer.model(weights.shape), path)


@dataclass
class _GraphWriter:
    """Nodes and initialisers of a graph in the making; large initialisers go straight to the data file."""

    data: BinaryIO
    location: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add an initialiser once under ``name``, which is returned for use as an input."""
        if name not in self._names:
            self._names.add(name)
            values = np.ascontiguousarray(values)
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
        """The finished model. Opset 21 and IR 10 are what every supported ONNX Runtime reads."""
        info = helper.make_tensor_value_info
        cache: list[str | int | None] = ["B", shape.kv_heads, "T", shape.head_dim]
        inputs = [
            info("input_ids", TensorProto.INT64, ["B", "S"]),
            info("seqlens_k", TensorProto.INT32, ["B"]),
            info("total_seq", TensorProto.INT32, []),
            info("logit_idx", TensorProto.INT64, ["n"]),
        ]
        outputs = [info("logits", TensorProto.FLOAT, ["n", shape.vocab])]
        for layer in range(shape.layers):
            for side in "kv":
                inputs.append(info(f"past.{layer}.{side}", TensorProto.FLOAT, cache))
                outputs.append(info(f"present.{layer}.{side}", TensorProto.FLOAT, cache))
        graph = helper.make_graph(self.nodes, "decoder", inputs, outputs, initializer=self.initializers)
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

    def _store(self, values: NDArray[Any]) -> int:
        self.data.write(b"\0" * (-self.data.tell() % _PAGE))
        offset = self.data.tell()
        self.data.write(values.data.cast("B"))
        return offset

    def _point(self, tensor: TensorProto, offset: int, length: int) -> None:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))


class _Decoder:
    """Lays down the decoder, node by node, in the order in which it computes."""

    def __init__(self, writer: _GraphWriter, weights: DecoderWeights, precision: Precision) -> None:
        self._graph = writer
        self._weights = weights
        self._shape = weights.shape
        self._precision = precision
        self._block_sums: dict[str, str] = {}

    def build(self) -> None:
        embedding = self._weights.embedding()
        self._rotary_tables()
        residual = self._embed(embedding)
        branch: str | None = None
        for layer in range(self._shape.layers):
            branch, residual = self._layer(layer, branch, residual)
        assert branch is not None  # a decoder has layers
        self._head(branch, residual, self._weights.head(), embedding)

    def _rotary_tables(self) -> None:
        shape = self._shape
        exponents = np.arange(0, shape.head_dim, 2, dtype=np.float64) / shape.head_dim
        angles = np.outer(np.arange(shape.context), shape.rope_theta**-exponents)
        self._graph.constant("rope.cos", np.cos(angles).astype(np.float32))
        self._graph.constant("rope.sin", np.sin(angles).astype(np.float32))

    def _embed(self, table: Matrix) -> str:
        graph = self._graph
        if not isinstance(table, Int8):
            return graph.op("Gather", [graph.constant("embed.w", table.dense()), "input_ids"], name="embed")
        codes = graph.constant("embed.q", table.unsigned())
        scales = graph.constant("embed.s", table.scales)
        attrs: _Attributes = {"bits": 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        return graph.microsoft("GatherBlockQuantized", [codes, "input_ids", scales], name="embed", **attrs)

    def _layer(self, layer: int, branch: str | None, residual: str) -> tuple[str, str]:
        name = f"layer{layer}"
        x, residual = self._norm(f"{name}.norm1", branch, residual, self._weights.norm(layer, "attention_norm"))
        branch = self._attention(layer, x)
        x, residual = self._norm(f"{name}.norm2", branch, residual, self._weights.norm(layer, "ffn_norm"))
        return self._mlp(layer, x), residual

    def _norm(self, name: str, branch: str | None, residual: str, gain: Floats) -> tuple[str, str]:
        """RMSNorm of ``residual`` + ``branch``; returns the norm and that sum."""
        graph, epsilon = self._graph, self._shape.norm_epsilon
        gain_name = graph.constant(f"{name}.g", gain)
        if branch is None:
            attrs: _Attributes = {"epsilon": epsilon, "axis": -1, "stash_type": 1}
            return graph.op("SimplifiedLayerNormalization", [residual, gain_name], name=name, **attrs), residual
        total = f"{name}.sum"
        inputs, outputs = [branch, residual, gain_name], [name, "", "", total]
        graph.microsoft("SkipSimplifiedLayerNormalization", inputs, name=name, outputs=outputs, epsilon=epsilon)
        return name, total

    def _attention(self, layer: int, x: str) -> str:
        graph, shape, name = self._graph, self._shape, f"layer{layer}"
        qkv = self._linear(f"{name}.qkv", x, [self._weights.linear(layer, part) for part in "qkv"])
        past = [f"past.{layer}.k", f"past.{layer}.v"]
        present = [f"present.{layer}.k", f"present.{layer}.v"]
        window = {} if shape.window is None else {"local_window_size": shape.window}
        attended = graph.microsoft(
            "GroupQueryAttention",
            [qkv, "", "", *past, "seqlens_k", "total_seq", "rope.cos", "rope.sin"],
            name=f"{name}.gqa",
            outputs=[f"{name}.attended", *present],
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
            scale=1 / math.sqrt(shape.head_dim),
            **window,
        )
        return self._linear(f"{name}.o", attended, [self._weights.linear(layer, "o")])

    def _mlp(self, layer: int, x: str) -> str:
        graph, name = self._graph, f"layer{layer}"
        parts = [self._weights.linear(layer, "gate"), self._weights.linear(layer, "up")]
        both = self._linear(f"{name}.gate_up", x, parts)
        halves = graph.constant("ffn.halves", np.array([self._shape.ffn] * 2, np.int64))
        gate, up = f"{name}.gate", f"{name}.up"
        graph.op("Split", [both, halves], name=f"{name}.split", outputs=[gate, up], axis=-1)
        silu = graph.microsoft("QuickGelu", [gate], name=f"{name}.silu", alpha=1.0)
        gated = graph.op("Mul", [silu, up], name=f"{name}.gated")
        return self._linear(f"{name}.down", gated, [self._weights.linear(layer, "down")])

    def _head(self, branch: str, residual: str, head: Matrix | None, embedding: Matrix) -> None:
        """Logits of the wanted rows only: they are gathered before the last norm, which is per row."""
        flat = self._graph.constant("flat", np.array([-1, self._shape.hidden], np.int64))
        wanted = [self._wanted_rows(name, x, flat) for name, x in (("branch", branch), ("residual", residual))]
        x, _ = self._norm(_HEAD_INPUT, wanted[0], wanted[1], self._weights.final_norm())
        matrix = embedding if head is None else head
        self._product("logits", x, matrix, tied_to="embed" if head is None else None)

    def _wanted_rows(self, name: str, x: str, flat: str) -> str:
        rows = self._graph.op("Reshape", [x, flat], name=f"head.{name}.flat")
        return self._graph.op("Gather", [rows, "logit_idx"], name=f"head.{name}", axis=0)

    def _linear(self, name: str, x: str, parts: Sequence[Matrix]) -> str:
        """``x`` times every part, side by side; one product where the parts share a format."""
        stacked = stack(parts)
        if len(stacked) == 1:
            return self._product(name, x, stacked[0])
        outputs = [self._product(f"{name}.{index}", x, part) for index, part in enumerate(stacked)]
        return self._graph.op("Concat", outputs, name=name, axis=-1)

    def _product(self, name: str, x: str, matrix: Matrix, tied_to: str | None = None) -> str:
        graph = self._graph
        if isinstance(matrix, Int8) and self._precision.float_int8:
            matrix = Dense(matrix.dense())
        match matrix:
            case Dense():
                weight = graph.constant(f"{name}.w", matrix.values.T)
                return graph.op("MatMul", [x, weight], name=name)
            case Int8():
                return self._int8_product(name, x, matrix, tied_to)
            case Int4(offsets=None):
                return self._int4_product(name, x, matrix)
            case Int4(offsets=offsets):
                assert offsets is not None  # mypy can't see that the case above took None
                scaled = self._int4_product(f"{name}.scaled", x, matrix)
                weight = graph.constant(f"{name}.m", offsets.T)
                shift = graph.op("MatMul", [self._sums_of_blocks(x), weight], name=f"{name}.shift")
                return graph.op("Add", [scaled, shift], name=name)

    def _int4_product(self, name: str, x: str, matrix: Int4) -> str:
        codes = self._graph.constant(f"{name}.q", matrix.packed())
        scales = self._graph.constant(f"{name}.s", matrix.scales)
        return self._matmul_nbits(name, [x, codes, scales], matrix, 4, self._precision.accuracy_level)

    def _int8_product(self, name: str, x: str, matrix: Int8, tied_to: str | None) -> str:
        rows, inputs = matrix.shape
        blocks = (rows, inputs // BLOCK, BLOCK)
        if tied_to is not None:
            codes = self._graph.alias(f"{name}.q", f"{tied_to}.q", blocks)
            scales = f"{tied_to}.s"
        else:
            codes = self._graph.constant(f"{name}.q", matrix.unsigned().reshape(blocks))
            scales = self._graph.constant(f"{name}.s", matrix.scales)
        # At level 1 x86 has no packed 8-bit kernel and would dequantise at every call.
        return self._matmul_nbits(name, [x, codes, scales], matrix, 8, 4)

    def _matmul_nbits(self, name: str, inputs: list[str], matrix: Int4 | Int8, bits: int, level: int) -> str:
        rows, columns = matrix.shape
        attrs: _Attributes = {"N": rows, "K": columns, "bits": bits, "block_size": BLOCK, "accuracy_level": level}
        return self._graph.microsoft("MatMulNBits", inputs, name=name, **attrs)

    def _sums_of_blocks(self, x: str) -> str:
        """The sum of every 32 inputs of ``x``, made once however many products share it: [..., K/32]."""
        if x not in self._block_sums:
            graph = self._graph
            kept = [0] if x == _HEAD_INPUT else [0, 0]  # [n, D] there, [B, S, D] elsewhere
            shape = graph.constant(f"blocks{len(kept)}", np.array([*kept, -1, BLOCK], np.int64))
            blocks = graph.op("Reshape", [x, shape], name=f"{x}.blocks")
            axis = graph.constant("last_axis", np.array([-1], np.int64))
            self._block_sums[x] = graph.op("ReduceSum", [blocks, axis], name=f"{x}.sums", keepdims=0)
        return self._block_sums[x]
