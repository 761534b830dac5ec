"""Block formats: what GGUF's own package decodes, the operators' layout, and rearranging without loss."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from runtime.ggml_blocks import DECODERS, from_ggml
from runtime.quantization import BLOCK, Bytes, Dense, Floats, Int4, Int8, Matrix, stack, take_rows
from runtime.rounding import to_int4, to_int8, to_nearest_int4

EXACT = sorted(DECODERS.keys() - {Type.Q6_K})
STORED = (Type.Q4_0, Type.Q4_1, Type.Q5_1, Type.Q8_0)
K_SIZES = {Type.Q4_K: (144, (0, 2)), Type.Q5_K: (176, (0, 2)), Type.Q6_K: (210, (208,))}
"""Bytes of a block of 256 weights, and where its fp16 factors are; gguf can read these types but not write them."""


def blocks(kind: Type, rows: int = 5, inputs: int = 96, *, mean: float = 0, spread: float = 1, seed: int = 0) -> Bytes:
    values = np.random.default_rng(seed).normal(mean, spread, (rows, inputs)).astype(np.float32)
    return np.asarray(gguf.quantize(values, kind), np.uint8)


def k_blocks(kind: Type) -> Bytes:
    """Random blocks of 256 weights, 5 rows of 2, with sound factors."""
    rng, (size, factors) = np.random.default_rng(6), K_SIZES[kind]
    raw = rng.integers(0, 256, (5, 2, size), dtype=np.uint8)
    for place in factors:
        raw[..., place : place + 2] = rng.normal(size=(5, 2, 1)).astype(np.float16).view(np.uint8)
    return raw.reshape(5, -1)


def one_of_each() -> list[Matrix]:
    dense = Dense(np.random.default_rng(9).normal(size=(5, 96)).astype(np.float32))
    return [*(DECODERS[kind](blocks(kind, seed=seed)) for seed, kind in enumerate(STORED)), dense]


@pytest.mark.parametrize(("mean", "spread"), [(0, 1), (0, 1e-3), (3, 0.5), (-40, 0.1)])
@pytest.mark.parametrize("kind", [kind for kind in EXACT if kind not in K_SIZES])
def test_blocks_decode_as_gguf_decodes_them(kind: Type, mean: float, spread: float) -> None:
    raw = blocks(kind, mean=mean, spread=spread)
    matrix = DECODERS[kind](raw)
    assert matrix.shape == (5, 96)
    np.testing.assert_array_equal(matrix.dense(), gguf.dequantize(raw, kind))


@pytest.mark.parametrize("kind", K_SIZES)
def test_k_blocks_decode_as_gguf_decodes_them(kind: Type) -> None:
    raw = k_blocks(kind)
    found, expected = from_ggml(raw, kind).dense(), gguf.dequantize(raw, kind)
    assert found.shape == (5, 512)
    if kind in EXACT:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    else:
        largest = np.abs(expected).reshape(5, -1, BLOCK).max(axis=-1).repeat(BLOCK, axis=-1)
        assert np.all(np.abs(found - expected) <= largest / 253)


@pytest.mark.parametrize("kind", [Type.F16, Type.BF16, Type.F32])
def test_floats_decode_as_gguf_decodes_them(kind: Type) -> None:
    raw = blocks(kind)
    found = from_ggml(raw, kind)
    assert isinstance(found, Dense)
    np.testing.assert_array_equal(found.dense(), gguf.dequantize(raw, kind))


@pytest.mark.parametrize("zeros", [0, 40, 96])
def test_searched_scales_err_less_than_nearest_ones(zeros: int) -> None:
    values: Floats = np.random.default_rng(3).standard_t(5, (300, 96)).astype(np.float32)
    values[:, :zeros] = 0
    searched, nearest = (
        np.square(round_(values).dense() - values).sum(axis=1) for round_ in (to_int4, to_nearest_int4)
    )
    assert np.all(searched <= nearest * (1 + 1e-5))
    assert searched.sum() <= 0.95 * nearest.sum()


def test_nearest_is_what_gguf_calls_q4_0() -> None:
    values: Floats = np.random.default_rng(4).normal(size=(5, 96)).astype(np.float32)
    theirs = gguf.dequantize(gguf.quantize(values, Type.Q4_0), Type.Q4_0)
    np.testing.assert_allclose(to_nearest_int4(values).dense(), theirs, atol=2e-3)  # its scales are float16


def test_eight_bits_err_by_half_a_step_at_most() -> None:
    values: Floats = np.random.default_rng(5).normal(size=(300, 96)).astype(np.float32)
    rounded = to_int8(values)
    assert np.all(np.abs(rounded.dense() - values) <= rounded.scales.repeat(BLOCK, axis=1) * 0.5001)


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
    q4_0, q4_1, q5_1, q8_0, dense = one_of_each()
    parts = [q4_0, q4_0, q4_1, q8_0, q8_0, q5_1, q5_1, dense, dense, q4_1, q4_1]
    stacked = stack(parts)
    assert [matrix.shape[0] for matrix in stacked] == [10, 5, 10, 10, 10, 10]
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
