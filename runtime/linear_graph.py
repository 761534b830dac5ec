"""Products of activations with weight matrices, in whichever format a matrix has.

Asymmetric 4-bit blocks run as a symmetric product plus one over the blocks' sums, which is exact and keeps the
packed kernel, where float zero points would dequantise the matrix at every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.graph_writer import GraphWriter
from runtime.quantization import BLOCK, Dense, Floats, Int4, Int8, Matrix, stack

HEAD_INPUT = "final_norm"
"""What the output projection reads: [n, hidden], where every other product reads [B, S, hidden]."""
_Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Precision:
    """How the graph computes. ``accuracy_level`` is MatMulNBits': 4 rounds activations to int8, 1 keeps float32.

    ``float_int8``: products with 8-bit matrices run as float32 ones, for they know no level but 4. ``half``:
    activations, the KV cache and all float constants are float16; logits stay float32, and the table of embeddings
    has no blocks.
    """

    accuracy_level: int = 4
    float_int8: bool = False
    half: bool = False


SERVED = Precision()
EXACT = Precision(accuracy_level=1, float_int8=True)
HALF = Precision(half=True)
"""What CUDA computes: attention has no float32 kernel there, and a plain table needs no operator of its own."""


class Products:
    """Lays down the products of one graph."""

    def __init__(self, graph: GraphWriter, precision: Precision) -> None:
        self._graph = graph
        self._precision = precision
        self._block_sums: dict[str, str] = {}

    def linear(self, name: str, x: str, parts: Sequence[Matrix], biases: Sequence[Floats | None] = ()) -> str:
        """``x`` times every part, side by side, plus all ``biases`` or none; one product where the parts agree."""
        given = [bias for bias in biases if bias is not None]
        if not given:
            return self._side_by_side(name, x, parts)
        plain = self._side_by_side(f"{name}.plain", x, parts)
        return self._graph.op("Add", [plain, self._graph.constant(f"{name}.b", np.concatenate(given))], name=name)

    def product(self, name: str, x: str, matrix: Matrix, tied_to: str | None = None) -> str:
        """``x`` times ``matrix``, whose bytes are those of the table ``tied_to`` where one is named."""
        graph = self._graph
        if isinstance(matrix, Int8) and self._precision.float_int8:
            matrix = Dense(matrix.dense())
        if isinstance(matrix, Dense):
            weight = graph.constant(f"{name}.w", matrix.values.T)
            return graph.op("MatMul", [x, weight], name=name)
        if matrix.offsets is None:
            return self._scaled(name, x, matrix, tied_to)
        scaled = self._scaled(f"{name}.scaled", x, matrix, tied_to)
        weight = graph.constant(f"{name}.m", matrix.offsets.T)
        shift = graph.op("MatMul", [self._sums_of_blocks(x), weight], name=f"{name}.shift")
        return graph.op("Add", [scaled, shift], name=name)

    def _scaled(self, name: str, x: str, matrix: Int4 | Int8, tied_to: str | None) -> str:
        """``x`` times ``matrix`` without its offsets."""
        return (
            self._int4_product(name, x, matrix)
            if isinstance(matrix, Int4)
            else self._int8_product(name, x, matrix, tied_to)
        )

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
            kept = [0] if x == HEAD_INPUT else [0, 0]  # [n, D] there, [B, S, D] elsewhere
            shape = graph.constant(f"blocks{len(kept)}", np.array([*kept, -1, BLOCK], np.int64))
            blocks = graph.op("Reshape", [x, shape], name=f"{x}.blocks")
            axis = graph.constant("last_axis", np.array([-1], np.int64))
            self._block_sums[x] = graph.op("ReduceSum", [blocks, axis], name=f"{x}.sums", keepdims=0)
        return self._block_sums[x]

    def _side_by_side(self, name: str, x: str, parts: Sequence[Matrix]) -> str:
        stacked = stack(parts)
        if len(stacked) == 1:
            return self.product(name, x, stacked[0])
        outputs = [self.product(f"{name}.{index}", x, part) for index, part in enumerate(stacked)]
        return self._graph.op("Concat", outputs, name=name, axis=-1)
