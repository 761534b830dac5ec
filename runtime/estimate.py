"""What a decoder needs before it is built: disk, memory, and the tokens per second that memory allows."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from runtime.config import DecoderShape
from runtime.device import usable_cores

_BITS = {"int4": 5.0, "stored": 6.0, "int8": 9.0, "fp16": 16.0, "fp32": 32.0}
"""Bits per weight; blocks of 32 share a float32 scale. ``stored`` is what Q4_1 takes, the largest of 4 bits."""
_HALF_BITS = {**_BITS, "int4": 4.5, "stored": 5.0, "int8": 8.5}
"""The same where scales are float16."""
_PROBED = 1 << 28  # bytes read to measure the bandwidth
_ROUNDS = 3
_IN_NAME = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)(b|m)(?![a-z0-9])")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model would take here in one precision. Bytes, and tokens per second of a single stream."""

    precision: str
    disk: int
    memory: int
    speed: float


def parameters(shape: DecoderShape) -> int:
    """The weights of a decoder's matrices; a tied output projection counts."""
    attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_dim
    return shape.layers * (attention + 3 * shape.hidden * shape.ffn) + 2 * shape.vocab * shape.hidden


def is_sensitive(shape: DecoderShape, layer: int, part: str) -> bool:
    """Whether ``int4`` keeps a matrix in 8 bits: all values, and what the MLP gives in some layers.

    Of all kinds of matrices these two lose the most for their size (tests/benchmarks/perplexity.py). The layers are
    those that llama.cpp's Q4_K_M spares: the first and last eighth, and every third between (``use_more_bits`` in
    llama-quant.cpp).
    """
    eighth = shape.layers // 8
    spared = layer < eighth or layer >= shape.layers - eighth or (layer - eighth) % 3 == 2
    return part == "v" or (part == "down" and spared)


def disk_bytes(shape: DecoderShape, precision: str, *, half: bool = False) -> int:
    """Bytes of the artifact of a decoder of ``shape``. ``half``: its graph computes in float16, for CUDA."""
    each, table = (_HALF_BITS if half else _BITS), shape.vocab * shape.hidden
    in_table = each["int8"] if precision in ("int4", "stored") else each[precision]
    bits = (parameters(shape) - 2 * table) * each[precision]
    bits += table * in_table + table * (max(in_table, each["fp16"]) if half else in_table)
    if precision == "int4":
        spared = {
            part: sum(is_sensitive(shape, layer, part) for layer in range(shape.layers)) for part in ("v", "down")
        }
        eight_bit = shape.hidden * (spared["v"] * shape.kv_heads * shape.head_dim + spared["down"] * shape.ffn)
        bits += eight_bit * (each["int8"] - each["int4"])
    return int(bits / 8)


def needs(weights: int, bandwidth: float) -> list[Needs]:
    """What ``weights`` parameters take in each precision, where memory gives ``bandwidth`` bytes per second.

    A token reads every weight once. float16 has no arithmetic of its own on a CPU, and is held as float32 there.
    """
    found = []
    for precision, bits in (("int4", 5.6), ("int8", 9.0), ("fp16", 16.0), ("fp32", 32.0)):
        disk = int(weights * bits / 8)
        memory = disk * 2 if precision == "fp16" else disk
        found.append(Needs(precision, disk, memory, bandwidth / memory))
    return found


def parameters_in_name(name: str) -> int | None:
    """The parameters that a model's name tells of (``starling-lm-7b-beta``: 7 thousand million), if it does."""
    found = _IN_NAME.search(name.lower())
    return None if found is None else int(float(found[1]) * {"b": 1e9, "m": 1e6}[found[2]])


def memory_bandwidth() -> float:
    """Bytes per second that all cores read together; takes some tenths of a second."""
    cores = usable_cores()
    pieces = np.array_split(np.ones(_PROBED // 8, np.int64), cores)
    with ThreadPoolExecutor(cores) as threads:
        best = min(_timed(threads, pieces) for _ in range(_ROUNDS))
    return _PROBED / best


def _timed(threads: ThreadPoolExecutor, pieces: list[np.ndarray]) -> float:
    started = time.perf_counter()
    for _ in threads.map(np.max, pieces):  # numpy's fastest reduction: it waits for memory alone
        pass
    return time.perf_counter() - started
