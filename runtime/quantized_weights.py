"""A decoder's weights in the precision that was asked for: rounds each matrix as the graph asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from runtime.config import DecoderShape
from runtime.decoder_graph import DecoderWeights
from runtime.linear_graph import HALF, SERVED, Precision
from runtime.quantization import BLOCK, Dense, Floats, Int4, Int8, Matrix
from runtime.rounding import to_int4, to_int8

PrecisionName: TypeAlias = Literal["int4", "int8", "fp16", "fp32"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)
COMPUTES: dict[PrecisionName, Precision] = {"int4": SERVED, "int8": SERVED, "fp16": HALF, "fp32": SERVED}
"""How the graph of each precision computes."""
Counted = Callable[[int], None]
"""Called with the number of parameters that a matrix held, once it is ready."""


def is_sensitive(shape: DecoderShape, layer: int, part: str) -> bool:
    """Whether ``int4`` keeps this matrix in 8 bits: values and what the MLP gives, in the layers that llama.cpp's
    Q4_K_M spares too (the first and last eighth, and every third between; ``use_more_bits`` in llama-quant.cpp).
    """
    eighth = shape.layers // 8
    spared = layer < eighth or layer >= shape.layers - eighth or (layer - eighth) % 3 == 2
    return part in ("v", "down") and spared


class QuantizedWeights:
    """``source`` in ``precision``. Blocks that the source already has are kept, but in fp16 and fp32."""

    def __init__(self, source: DecoderWeights, precision: PrecisionName, counted: Counted) -> None:
        self.shape = source.shape
        self._source = source
        self._precision = precision
        self._counted = counted

    def linear(self, layer: int, part: str) -> Matrix:
        """One projection of a layer."""
        return self._rounded(self._source.linear(layer, part), sensitive=is_sensitive(self.shape, layer, part))

    def bias(self, layer: int, part: str) -> Floats | None:
        """A projection's bias, as the source has it."""
        return self._source.bias(layer, part)

    def norm(self, layer: int, part: str) -> Floats:
        """The gain of a layer's RMSNorm, as the source has it."""
        return self._source.norm(layer, part)

    def optional_norm(self, layer: int, part: str) -> Floats | None:
        """The gain of a norm that only some architectures have, as the source has it."""
        return self._source.optional_norm(layer, part)

    def final_norm(self) -> Floats:
        """The gain of the last RMSNorm, as the source has it."""
        return self._source.final_norm()

    def embedding(self) -> Matrix:
        """The token embeddings, in 8 bits where the precision has blocks."""
        return self._eight_bits(self._source.embedding())

    def head(self) -> Matrix | None:
        """The output projection, likewise, or ``None`` where it is tied to the embedding."""
        head = self._source.head()
        return None if head is None else self._eight_bits(head)

    def _rounded(self, matrix: Matrix, *, sensitive: bool) -> Matrix:
        self._count(matrix)
        match matrix, self._precision:
            case _, "fp16" | "fp32":
                return Dense(matrix.dense())
            case Dense(values), "int4" if not sensitive and values.shape[1] % BLOCK == 0:
                return to_int4(values)
            case Dense(values), _ if values.shape[1] % BLOCK == 0:
                return to_int8(values)
        return matrix

    def _eight_bits(self, matrix: Matrix) -> Matrix:
        """The operator that looks tokens up reads 8-bit blocks without offsets."""
        if isinstance(matrix, Int4) or (isinstance(matrix, Int8) and matrix.offsets is not None):
            matrix = Dense(matrix.dense())
        return self._rounded(matrix, sensitive=True)

    def _count(self, matrix: Matrix) -> None:
        rows, columns = matrix.shape
        self._counted(rows * columns)


def parameters(shape: DecoderShape, *, tied: bool = False) -> int:
    """The number of weights in the matrices of a decoder of this shape."""
    attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_dim
    layers = shape.layers * (attention + 3 * shape.hidden * shape.ffn)
    return layers + shape.vocab * shape.hidden * (1 if tied else 2)
