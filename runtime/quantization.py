"""Weight matrices in the block formats that the graph's operators read.

A matrix is ``[N, K]``: N output features, K inputs. Quantised rows are cut into blocks of 32 inputs that share
a scale. Formats follow ``com.microsoft.MatMulNBits`` (ONNX Runtime's ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
Floats: TypeAlias = NDArray[np.float32]
Bytes: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Int4:
    """``w[n, k] = scales[n, b] * (codes[n, k] - 8) + offsets[n, b]`` with ``b = k // 32``.

    ``codes``: uint8 0..15 ``[N, K]``; ``scales``: ``[N, K/32]``; ``offsets``: the same shape, ``None`` where all are 0.
    """

    codes: Bytes
    scales: Floats
    offsets: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(N, K)``."""
        return self.codes.shape[0], self.codes.shape[1]

    def packed(self) -> Bytes:
        """The codes two to a byte, the earlier input in the low nibble: ``[N, K/32, 16]``."""
        rows, inputs = self.shape
        pairs = self.codes.reshape(rows, inputs // BLOCK, BLOCK // 2, 2)
        packed: Bytes = pairs[..., 0] | (pairs[..., 1] << np.uint8(4))
        return packed

    def dense(self) -> Floats:
        """The matrix itself, float32 ``[N, K]``."""
        rows, inputs = self.shape
        blocks = self.codes.reshape(rows, inputs // BLOCK, BLOCK).astype(np.float32) - 8
        blocks *= self.scales[..., None]
        if self.offsets is not None:
            blocks += self.offsets[..., None]
        return blocks.reshape(rows, inputs)


@dataclass(frozen=True, slots=True)
class Int8:
    """``w[n, k] = scales[n, b] * codes[n, k] + offsets[n, b]`` with ``b = k // 32``.

    ``codes``: int8 ``[N, K]``; ``scales``: ``[N, K/32]``; ``offsets``: the same shape, ``None`` where all are 0.
    """

    codes: NDArray[np.int8]
    scales: Floats
    offsets: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(N, K)``."""
        return self.codes.shape[0], self.codes.shape[1]

    def unsigned(self) -> Bytes:
        """The codes shifted by 128, the operators' implied zero point: uint8 ``[N, K]``."""
        return (self.codes.view(np.uint8) ^ np.uint8(0x80)).astype(np.uint8)

    def dense(self) -> Floats:
        """The matrix itself, float32 ``[N, K]``."""
        rows, inputs = self.shape
        blocks = self.codes.reshape(rows, inputs // BLOCK, BLOCK).astype(np.float32)
        blocks *= self.scales[..., None]
        if self.offsets is not None:
            blocks += self.offsets[..., None]
        return blocks.reshape(rows, inputs)


@dataclass(frozen=True, slots=True)
class Dense:
    """A matrix that isn't quantised, float32 ``[N, K]``."""

    values: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """``(N, K)``."""
        return self.values.shape[0], self.values.shape[1]

    def dense(self) -> Floats:
        """The matrix itself."""
        return self.values


Matrix: TypeAlias = Int4 | Int8 | Dense


def stack(parts: Sequence[Matrix]) -> list[Matrix]:
    """``parts`` on top of each other along N where neighbours share a format; else left apart, in order."""
    stacked: list[Matrix] = []
    for part in parts:
        if stacked and (joined := _join(stacked[-1], part)) is not None:
            stacked[-1] = joined
        else:
            stacked.append(part)
    return stacked


def _join(above: Matrix, below: Matrix) -> Matrix | None:
    match above, below:
        case Int4(), Int4() if (above.offsets is None) == (below.offsets is None):
            return Int4(np.concatenate([above.codes, below.codes]), *_joined_factors(above, below))
        case Int8(), Int8() if (above.offsets is None) == (below.offsets is None):
            return Int8(np.concatenate([above.codes, below.codes]), *_joined_factors(above, below))
        case Dense(), Dense():
            return Dense(np.concatenate([above.values, below.values]))
    return None


def _joined_factors(above: Int4 | Int8, below: Int4 | Int8) -> tuple[Floats, Floats | None]:
    scales = np.concatenate([above.scales, below.scales])
    if above.offsets is None or below.offsets is None:
        return scales, None
    return scales, np.concatenate([above.offsets, below.offsets])


def take_rows(matrix: Matrix, order: NDArray[np.intp]) -> Matrix:
    """``matrix`` with its N rows in another order; exact in every format."""
    if isinstance(matrix, Dense):
        return Dense(matrix.values[order])
    offsets = None if matrix.offsets is None else matrix.offsets[order]
    if isinstance(matrix, Int4):
        return Int4(matrix.codes[order], matrix.scales[order], offsets)
    return Int8(matrix.codes[order], matrix.scales[order], offsets)
