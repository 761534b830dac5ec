"""Rounds float matrices to the block formats of :mod:`runtime.quantization`, with the least squared error it can find.

Round-to-nearest lets a block's largest weight choose the scale. Here several scales are tried for each block, each is
refitted to the codes it gives (least squares, in closed form) and the best is kept: the idea of ggml's
``make_qx_quants``, over whole matrices at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from runtime.device import usable_cores
from runtime.quantization import BLOCK, Bytes, Floats, Int4, Int8

_PIECE = 1 << 18  # weights rounded at a time, so that they stay in a core's cache
_LIMITS = (8.0, 7.0, -8.4, 7.6, -7.4, -8.0, 8.4, -7.0, -7.6, 7.4, -6.6, 6.6)
"""Codes that a block's weight of largest magnitude is tried at; 8 and beyond is cut to -8 or 7."""
_Piece = tuple[NDArray[np.uint8], Floats]


def to_int4(values: Floats) -> Int4:
    """``values`` (float32 ``[N, K]``, K a multiple of 32) as symmetric 4-bit blocks, by search over scales."""
    codes, scales = np.empty(values.shape, np.uint8), np.empty((values.shape[0], values.shape[1] // BLOCK), np.float32)
    _by_pieces(_searched, values, codes, scales)
    return Int4(codes, scales)


def to_nearest_int4(values: Floats) -> Int4:
    """``values`` as symmetric 4-bit blocks by plain rounding (ggml's Q4_0): what the search is measured against."""
    codes, scales = np.empty(values.shape, np.uint8), np.empty((values.shape[0], values.shape[1] // BLOCK), np.float32)
    _by_pieces(_nearest, values, codes, scales)
    return Int4(codes, scales)


def to_int8(values: Floats) -> Int8:
    """``values`` (float32 ``[N, K]``, K a multiple of 32) as 8-bit blocks, rounded to nearest."""
    codes, scales = np.empty(values.shape, np.uint8), np.empty((values.shape[0], values.shape[1] // BLOCK), np.float32)
    _by_pieces(_eight_bits, values, codes, scales)
    return Int8(codes.view(np.int8), scales)


def _by_pieces(round_piece: Callable[[Floats], _Piece], values: Floats, codes: Bytes, scales: Floats) -> None:
    """Fill ``codes`` and ``scales`` from ``values``, some rows at a time, on every core."""

    def fill(rows: slice) -> None:
        piece, scale = round_piece(values[rows].reshape(-1, BLOCK))
        codes[rows] = piece.reshape(codes[rows].shape)
        scales[rows] = scale.reshape(scales[rows].shape)

    with ThreadPoolExecutor(usable_cores()) as threads:
        for _ in threads.map(fill, _row_slices(values)):
            pass


def _row_slices(values: Floats) -> Iterator[slice]:
    step = max(1, _PIECE // values.shape[1])
    return (slice(start, start + step) for start in range(0, values.shape[0], step))


def _searched(blocks: Floats) -> _Piece:
    """The codes and scales of ``[n, 32]`` blocks, best of those that ``_LIMITS`` give."""
    inverse = _inverse(_largest(blocks))
    best = np.full(len(blocks), -1.0, np.float32)
    codes: Floats = np.zeros_like(blocks)
    scales: Floats = np.zeros(len(blocks), np.float32)
    for limit in _LIMITS:
        tried = np.clip(np.rint(blocks * (inverse * np.float32(limit))[:, None]), -8, 7)
        products: Floats = np.einsum("nk,nk->n", blocks, tried)
        squares: Floats = np.einsum("nk,nk->n", tried, tried)
        # The squared error of the refitted scale is |x|^2 - products^2 / squares.
        fitted: Floats = np.asarray(products / np.maximum(squares, 1), np.float32)
        better = products * fitted > best
        best = np.where(better, products * fitted, best)
        scales = np.where(better, fitted, scales)
        np.copyto(codes, tried, where=better[:, None])
    return (codes + np.float32(8)).astype(np.uint8), scales


def _nearest(blocks: Floats) -> _Piece:
    largest = _largest(blocks)
    codes: Floats = np.clip(np.rint(blocks * (_inverse(largest) * np.float32(-8))[:, None]), -8, 7)
    return (codes + np.float32(8)).astype(np.uint8), largest / np.float32(-8)


def _eight_bits(blocks: Floats) -> _Piece:
    largest = np.abs(_largest(blocks))
    codes = np.rint(blocks * (_inverse(largest) * np.float32(127))[:, None])
    scales: Floats = np.asarray(largest / np.float32(127), np.float32)
    return codes.astype(np.int8).view(np.uint8), scales


def _largest(blocks: Floats) -> Floats:
    """Each block's value of largest magnitude, with its sign: ``[n]``."""
    places = np.abs(blocks).argmax(axis=1)
    largest: Floats = blocks[np.arange(len(blocks)), places]
    return largest


def _inverse(values: Floats) -> Floats:
    """1 / ``values``, and 0 where a value is 0 or too small to be divided by."""
    usable = np.abs(values) > np.float32(1e-30)
    inverse: Floats = np.divide(np.float32(1), values, out=np.zeros_like(values), where=usable)
    return inverse
