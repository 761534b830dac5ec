"""The machine that a benchmark runs on."""

from __future__ import annotations

import platform
import threading
import time
from pathlib import Path

import numpy as np

_BYTES = 256 * 2**20  # per thread, far beyond any cache
_TRIES = 7


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def read_bandwidth(threads: int) -> float:
    """Bytes that ``threads`` threads read together from memory, GB/s: the best of some tries, as STREAM counts."""
    arrays = [np.ones(_BYTES // 4, np.float32) for _ in range(threads)]
    best = 0.0
    for _ in range(_TRIES):
        readers = [threading.Thread(target=array.max) for array in arrays]
        started = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = max(best, threads * _BYTES / (time.perf_counter() - started) / 1e9)
    return best


def resident() -> float:
    """This process's resident memory, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20
