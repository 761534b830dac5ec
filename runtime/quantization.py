"""Weight matrices in the block formats that the graph's operators read, and how GGUF's blocks become them.

A matrix is ``[N, K]``: N output features, K inputs. Quantised rows are cut into blocks of 32 inputs that share
a scale. Formats follow ggml's ``block_q4_0``, ``block_q4_1`` and ``block_q8_0`` (ggml-common.h) on the way in and
``com.microsoft.MatMulNBits`` (ONNX Runtime's ContribOperators.md) on the way out.
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
    """``w[n, k] = scales[n, k // 32] * codes[n, k]``; ``codes``: int8 ``[N, K]``."""

    codes: NDArray[np.int8]
    scales: Floats

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
        return (blocks * self.scales[..., None]).reshape(rows, inputs)


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
            offsets = None
            if above.offsets is not None and below.offsets is not None:
                offsets = np.concatenate([above.offsets, below.offsets])
            codes = np.concatenate([above.codes, below.codes])
            return Int4(codes, np.concatenate([above.scales, below.scales]), offsets)
        case Int8(), Int8():
            codes8 = np.concatenate([above.codes, below.codes])
            return Int8(codes8, np.concatenate([above.scales, below.scales]))
        case Dense(), Dense():
            return Dense(np.concatenate([above.values, below.values]))
    return None


def take_rows(matrix: Matrix, order: NDArray[np.intp]) -> Matrix:
    """``matrix`` with its N rows in another order; exact in every format."""
    match matrix:
        case Int4():
            offsets = None if matrix.offsets is None else matrix.offsets[order]
            return Int4(matrix.codes[order], matrix.scales[order], offsets)
        case Int8():
            return Int8(matrix.codes[order], matrix.scales[order])
        case Dense():
            return Dense(matrix.values[order])


def from_q4_0(raw: Bytes) -> Int4:
    """ggml Q4_0 rows: 18-byte blocks of an fp16 scale and 16 bytes of nibbles."""
    blocks = raw.reshape(raw.shape[0], -1, 18)
    return Int4(_nibbles(blocks[..., 2:]), _halves(blocks, 0))


def from_q4_1(raw: Bytes) -> Int4:
    """ggml Q4_1 rows: 20-byte blocks of fp16 scale ``d``, fp16 minimum ``m`` and 16 bytes of nibbles.

    ``d*q + m`` equals ``d*(q-8) + (m + 8*d)``, and 8*d is exact in float32, as is the sum but for
    minima ten thousand times the scale.
    """
    blocks = raw.reshape(raw.shape[0], -1, 20)
    scales = _halves(blocks, 0)
    return Int4(_nibbles(blocks[..., 4:]), scales, _halves(blocks, 2) + 8 * scales)


def from_q8_0(raw: Bytes) -> Int8:
    """ggml Q8_0 rows: 34-byte blocks of an fp16 scale and 32 int8."""
    blocks = raw.reshape(raw.shape[0], -1, 34)
    codes = np.ascontiguousarray(blocks[..., 2:]).view(np.int8)
    return Int8(codes.reshape(raw.shape[0], -1), _halves(blocks, 0))


def _nibbles(bytes_: Bytes) -> Bytes:
    """ggml keeps inputs 0..15 of a block in the low nibbles and 16..31 in the high ones."""
    return np.concatenate([bytes_ & 15, bytes_ >> 4], axis=-1).reshape(bytes_.shape[0], -1)


def _halves(blocks: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(blocks[..., at : at + 2]).view(np.float16)[..., 0].astype(np.float32)
