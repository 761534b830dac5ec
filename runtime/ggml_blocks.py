"""GGUF's block formats as the graph's matrices. Source: the ``block_*`` structs of ggml-common.h.

Every format but Q6_K becomes what ggml decodes it to (Q4_K but for the last bit of float32); Q6_K's scales serve 16
weights each, so its 6-bit codes are rounded to 8 bits over 32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gguf import dequantize
from gguf.constants import GGMLQuantizationType as Type
from numpy.typing import NDArray

from runtime.quantization import BLOCK, Bytes, Dense, Floats, Int4, Int8, Matrix
from runtime.rounding import to_int8

_SUPER = 256  # weights in a block of the K formats
_HIGH = np.arange(8, dtype=np.uint8)


def from_ggml(data: NDArray[Any], kind: Type) -> Matrix:
    """The rows of a GGUF tensor of type ``kind`` as a matrix; what isn't cut into blocks becomes float32."""
    if decode := DECODERS.get(kind):
        return decode(np.asarray(data))
    return Dense(np.asarray(dequantize(data, kind), np.float32))


def from_q4_0(raw: Bytes) -> Int4:
    """18-byte blocks of an fp16 scale and 16 bytes of nibbles."""
    blocks = raw.reshape(raw.shape[0], -1, 18)
    return Int4(_nibbles(blocks[..., 2:]), _halves(blocks, 0))


def from_q4_1(raw: Bytes) -> Int4:
    """20-byte blocks of fp16 scale ``d``, fp16 minimum ``m`` and 16 bytes of nibbles.

    ``d*q + m`` equals ``d*(q-8) + (m + 8*d)``, and 8*d is exact in float32, as is the sum but for
    minima ten thousand times the scale.
    """
    blocks = raw.reshape(raw.shape[0], -1, 20)
    scales = _halves(blocks, 0)
    return Int4(_nibbles(blocks[..., 4:]), scales, _halves(blocks, 2) + 8 * scales)


def from_q5_0(raw: Bytes) -> Int8:
    """22-byte blocks of an fp16 scale, 4 bytes of fifth bits and 16 bytes of nibbles; codes are less 16."""
    blocks = raw.reshape(raw.shape[0], -1, 22)
    codes = _nibbles(blocks[..., 6:]) | _fifth_bits(blocks[..., 2:6])
    return Int8(codes.view(np.int8) - np.int8(16), _halves(blocks, 0))


def from_q5_1(raw: Bytes) -> Int8:
    """24-byte blocks: Q5_0 with an fp16 minimum behind the scale, and codes from 0."""
    blocks = raw.reshape(raw.shape[0], -1, 24)
    codes = _nibbles(blocks[..., 8:]) | _fifth_bits(blocks[..., 4:8])
    return Int8(codes.view(np.int8), _halves(blocks, 0), _halves(blocks, 2))


def from_q8_0(raw: Bytes) -> Int8:
    """34-byte blocks of an fp16 scale and 32 int8."""
    blocks = raw.reshape(raw.shape[0], -1, 34)
    codes = np.ascontiguousarray(blocks[..., 2:]).view(np.int8)
    return Int8(codes.reshape(raw.shape[0], -1), _halves(blocks, 0))


def from_q4_k(raw: Bytes) -> Int4:
    """144-byte blocks of 256: fp16 ``d`` and ``dmin``, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles."""
    blocks = raw.reshape(raw.shape[0], -1, 144)
    scales, minima = _six_bit_scales(blocks)
    codes = _k_nibbles(blocks[..., 16:])
    return Int4(codes.reshape(raw.shape[0], -1), scales, 8 * scales - minima)


def from_q5_k(raw: Bytes) -> Int8:
    """176-byte blocks: Q4_K with 32 bytes of fifth bits in front of the nibbles."""
    blocks = raw.reshape(raw.shape[0], -1, 176)
    scales, minima = _six_bit_scales(blocks)
    fifth = (blocks[..., None, 16:48] >> _HIGH[:, None]) & 1  # bit i of byte j: weight j of sub-block i
    codes = _k_nibbles(blocks[..., 48:]) | (fifth << 4)
    return Int8(codes.view(np.int8).reshape(raw.shape[0], -1), scales, -minima)


def from_q6_k(raw: Bytes) -> Int8:
    """210-byte blocks of 256: 6-bit codes with an 8-bit scale for every 16, rounded to 8 bits with one for 32."""
    return to_int8(np.asarray(dequantize(raw, Type.Q6_K), np.float32))


DECODERS: dict[Type, Callable[[Bytes], Matrix]] = {
    Type.Q4_0: from_q4_0,
    Type.Q4_1: from_q4_1,
    Type.Q5_0: from_q5_0,
    Type.Q5_1: from_q5_1,
    Type.Q8_0: from_q8_0,
    Type.Q4_K: from_q4_k,
    Type.Q5_K: from_q5_k,
    Type.Q6_K: from_q6_k,
}
SERVED_TYPES = frozenset({*DECODERS, Type.F16, Type.BF16, Type.F32})
"""The tensor types that a GGUF file may hold here."""


def _nibbles(bytes_: Bytes) -> Bytes:
    """ggml keeps weights 0..15 of a block in the low nibbles and 16..31 in the high ones."""
    return np.concatenate([bytes_ & 15, bytes_ >> 4], axis=-1).reshape(bytes_.shape[0], -1)


def _fifth_bits(bytes_: Bytes) -> Bytes:
    """Bit i of a block's 32 bits is weight i's fifth, returned in its place: ``[N, K]`` of 0 or 16."""
    bits: Bytes = np.unpackbits(np.ascontiguousarray(bytes_), axis=-1, bitorder="little")
    fifth: Bytes = bits << np.uint8(4)
    return fifth.reshape(bytes_.shape[0], -1)


def _k_nibbles(bytes_: Bytes) -> Bytes:
    """128 bytes, 32 at a time: low nibbles are a sub-block, high ones the next. ``[N, blocks, 8, 32]``."""
    quarters = bytes_.reshape(*bytes_.shape[:2], 4, 1, BLOCK)
    return np.concatenate([quarters & 15, quarters >> 4], axis=3).reshape(*bytes_.shape[:2], _SUPER // BLOCK, BLOCK)


def _six_bit_scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales ``d * s`` and minima ``dmin * m`` of a K block's eight sub-blocks: ``[N, K/32]`` each."""
    first, second, last = blocks[..., 4:8], blocks[..., 8:12], blocks[..., 12:16]
    scales = np.concatenate([first & 63, (last & 15) | ((first >> 6) << 4)], axis=-1)
    minima = np.concatenate([second & 63, (last >> 4) | ((second >> 6) << 4)], axis=-1)
    rows = blocks.shape[0]
    scaled = _halves(blocks, 0)[..., None] * scales.astype(np.float32)
    shifted = _halves(blocks, 2)[..., None] * minima.astype(np.float32)
    return scaled.reshape(rows, -1), shifted.reshape(rows, -1)


def _halves(blocks: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(blocks[..., at : at + 2]).view(np.float16)[..., 0].astype(np.float32)
