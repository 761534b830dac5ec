"""Block formats: what GGUF's own package decodes, the operators' layout, and rearranging without loss."""

from __future__ import annotations

from collections.abc import Callable

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from runtime.quantization import Bytes, Dense, Int4, Int8, Matrix, from_q4_0, from_q4_1, from_q8_0, stack, take_rows

DECODERS: dict[Type, Callable[[Bytes], Matrix]] = {Type.Q4_0: from_q4_0, Type.Q4_1: from_q4_1, Type.Q8_0: from_q8_0}


def blocks(kind: Type, rows: int = 5, inputs: int = 96, *, mean: float = 0, spread: float = 1, seed: int = 0) -> Bytes:
    values = np.random.default_rng(seed).normal(mean, spread, (rows, inputs)).astype(np.float32)
    return np.asarray(gguf.quantize(values, kind), np.uint8)


def one_of_each() -> list[Matrix]:
    dense = Dense(np.random.default_rng(9).normal(size=(5, 96)).astype(np.float32))
    return [*(decode(blocks(kind, seed=seed)) for seed, (kind, decode) in enumerate(DECODERS.items())), dense]


@pytest.mark.parametrize(("mean", "spread"), [(0, 1), (0, 1e-3), (3, 0.5), (-40, 0.1)])
@pytest.mark.parametrize("kind", DECODERS)
def test_blocks_decode_as_gguf_decodes_them(kind: Type, mean: float, spread: float) -> None:
    raw = blocks(kind, mean=mean, spread=spread)
    matrix = DECODERS[kind](raw)
    assert matrix.shape == (5, 96)
    np.testing.assert_array_equal(matrix.dense(), gguf.dequantize(raw, kind))


def test_packed_holds_neighbours_in_a_byte() -> None:
    codes = np.concatenate([np.arange(32), np.arange(32)[::-1]])[None].astype(np.uint8) % 16
    packed = Int4(codes, np.ones((1, 2), np.float32)).packed()
    assert packed.shape == (1, 2, 16)
    assert packed[0, 0, :4].tolist() == [0x10, 0x32, 0x54, 0x76]
    assert packed[0, 1, :4].tolist() == [0xEF, 0xCD, 0xAB, 0x89]


def test_unsigned_shifts_by_128() -> None:
    codes: NDArray[np.int8] = np.array([[-128, -1, 0, 127] * 8], np.int8)
    assert Int8(codes, np.ones((1, 1), np.float32)).unsigned()[0, :4].tolist() == [0, 127, 128, 255]


def test_stack_joins_neighbours_of_one_format() -> None:
    q4_0, q4_1, q8_0, dense = one_of_each()
    parts = [q4_0, q4_0, q4_1, q8_0, q8_0, dense, dense, q4_1, q4_1]
    stacked = stack(parts)
    assert [matrix.shape[0] for matrix in stacked] == [10, 5, 10, 10, 10]
    found, expected = ([matrix.dense() for matrix in matrices] for matrices in (stacked, parts))
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


def test_stack_of_one_is_itself() -> None:
    for matrix in one_of_each():
        assert stack([matrix])[0] is matrix


def test_take_rows_reorders_every_format() -> None:
    order = np.array([3, 0, 4, 1, 2])
    for matrix in one_of_each():
        taken = take_rows(matrix, order)
        assert type(taken) is type(matrix)
        np.testing.assert_array_equal(taken.dense(), matrix.dense()[order])
