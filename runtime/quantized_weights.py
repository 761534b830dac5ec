"""A decoder's weights in the precision that was asked for: rounds each matrix as the graph asks for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from runtime.decoder_graph import DecoderWeights
from runtime.errors import ArtifactError
from runtime.estimate import is_sensitive
from runtime.precision import STORED, PrecisionName
from runtime.quantization import BLOCK, Dense, Floats, Int4, Int8, Matrix
from runtime.rounding import to_int4, to_int8

Counted = Callable[[int], None]
"""Called with the number of parameters that a matrix held, once it is ready."""


class QuantizedWeights:
    """``source`` in ``precision``. Blocks that the source already has are kept, but in fp16 and fp32."""

    def __init__(self, source: DecoderWeights, precision: PrecisionName, counted: Counted) -> None:
        self.shape = source.shape
        self._source = source
        self._precision = precision
        self._counted = counted

    def linear(self, layer: int, part: str) -> Matrix:
        """One projection of a layer."""
        matrix = self._checked(f"layer {layer}'s {part}", self._source.linear(layer, part))
        return self._rounded(matrix, sensitive=is_sensitive(self.shape, layer, part))

    def bias(self, layer: int, part: str) -> Floats | None:
        """A projection's bias, as the source has it."""
        return _finite(f"layer {layer}'s bias of {part}", self._source.bias(layer, part))

    def norm(self, layer: int, part: str) -> Floats:
        """The gain of a layer's RMSNorm, as the source has it."""
        gain = self._source.norm(layer, part)
        _finite(f"layer {layer}'s {part}", gain)
        return gain

    def optional_norm(self, layer: int, part: str) -> Floats | None:
        """The gain of a norm that only some architectures have, as the source has it."""
        return _finite(f"layer {layer}'s {part}", self._source.optional_norm(layer, part))

    def final_norm(self) -> Floats:
        """The gain of the last RMSNorm, as the source has it."""
        gain = self._source.final_norm()
        _finite("the final norm", gain)
        return gain

    def embedding(self) -> Matrix:
        """The token embeddings, in 8 bits where the precision has blocks."""
        return self._eight_bits(self._checked("the embedding", self._source.embedding()))

    def head(self) -> Matrix | None:
        """The output projection, likewise, or ``None`` where it is tied to the embedding."""
        head = self._source.head()
        return None if head is None else self._eight_bits(self._checked("the head", head))

    def _rounded(self, matrix: Matrix, *, sensitive: bool) -> Matrix:
        self._count(matrix)
        match matrix, self._precision:
            case _, "stored":
                return matrix
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
            matrix = to_int8(matrix.dense()) if self._precision == STORED else Dense(matrix.dense())
        return self._rounded(matrix, sensitive=True)

    def _count(self, matrix: Matrix) -> None:
        rows, columns = matrix.shape
        self._counted(rows * columns)

    @staticmethod
    def _checked(what: str, matrix: Matrix) -> Matrix:
        """``matrix``, whose every weight is a number."""
        if isinstance(matrix, Dense):
            _finite(what, matrix.values)
        else:
            _finite(what, matrix.scales)
            _finite(what, matrix.offsets)
        return matrix


def _finite(what: str, values: Floats | None) -> Floats | None:
    """``values``; :class:`ArtifactError` if one of them is infinite or not a number."""
    if values is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            suspect = not np.isfinite(values.sum(axis=-1)).all()  # needs no copy, but sums of numbers may be infinite
        if suspect and not np.isfinite(values).all():
            raise ArtifactError(f"{what} holds a weight that is infinite or not a number: the file is damaged")
    return values
