"""The keys and values of every slot: one slab per layer and side, allocated once, backed by memory as it is used.

A slab is ``[slots, kv_heads, capacity, head_dim]`` in reserved address space. The system backs a page when a token is
first written to it and takes it back when its slot is released, so a cache costs what its tokens cost, and growing
copies nothing. Knows no sequence and no ONNX.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from runtime.scheduler import CacheOp, Move, Release

_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
"""Shared memory, mmap's default, would keep its pages when they are given back."""


@dataclass(frozen=True, slots=True)
class SlabSpec:
    """One side of one layer."""

    heads: int
    head_dim: int
    dtype: DTypeLike

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's keys (or values)."""
        return self.heads * self.head_dim * np.dtype(self.dtype).itemsize


class Place(NamedTuple):
    """Where slots of a slab lie, as ONNX Runtime's ``bind_input`` wants it; ``shape`` is the slots'."""

    device: str
    number: int
    dtype: Any
    shape: tuple[int, ...]
    address: int


class Cache(Protocol):
    """Slots of keys and values, in whichever memory."""

    bytes_per_token: int

    def places(self, slot: int, slots: int) -> dict[str, Place]:
        """Where slots ``slot`` to ``slot + slots - 1`` of every slab lie."""

    def apply(self, op: CacheOp, *, offset: int = 0) -> None:
        """Carry out a copy or a release; ``offset`` is added to the slots it names."""

    def kept(self, slot: int, tokens: int) -> dict[str, NDArray[Any]]:
        """A copy of a slot's first ``tokens`` by input name: ``[kv_heads, tokens, head_dim]``."""

    def fill(self, byte: int) -> None:
        """Set every byte of every slab."""

    def close(self) -> None:
        """Give everything back."""


class KVCache:
    """Slabs by name, each with ``slots`` slots of ``capacity`` tokens."""

    def __init__(self, specs: Mapping[str, SlabSpec], *, slots: int, capacity: int) -> None:
        self.bytes_per_token = sum(spec.bytes_per_token for spec in specs.values())
        self._slabs = {name: _Slab(spec, slots, capacity) for name, spec in specs.items()}

    def views(self, slot: int, slots: int) -> dict[str, NDArray[Any]]:
        """Slots ``slot`` to ``slot + slots - 1`` of every slab, as contiguous views."""
        return {name: slab.values[slot : slot + slots] for name, slab in self._slabs.items()}

    def places(self, slot: int, slots: int) -> dict[str, Place]:
        """Where the same slots lie. The addresses hold until :meth:`close`."""
        views = self.views(slot, slots).items()
        return {name: Place("cpu", 0, view.dtype.type, view.shape, view.ctypes.data) for name, view in views}

    def kept(self, slot: int, tokens: int) -> dict[str, NDArray[Any]]:
        """A copy of a slot's first ``tokens`` by input name: ``[kv_heads, tokens, head_dim]``."""
        return {name: view[0, :, :tokens].copy() for name, view in self.views(slot, 1).items()}

    def fill(self, byte: int) -> None:
        """Set every byte of every slab."""
        for slab in self._slabs.values():
            slab.values.view(np.uint8)[...] = byte

    def apply(self, op: CacheOp, *, offset: int = 0) -> None:
        """Carry out a copy or a release; ``offset`` is added to the slots it names."""
        match op:
            case Move(source, target, length, start):
                for slab in self._slabs.values():
                    slab.values[target + offset, :, start:length] = slab.values[source + offset, :, start:length]
            case Release(slot, start):
                for slab in self._slabs.values():
                    slab.release(slot + offset, start)

    def close(self) -> None:
        """Give everything back. Views that are still held keep their slab alive."""
        self._slabs.clear()


class _Slab:
    def __init__(self, spec: SlabSpec, slots: int, capacity: int) -> None:
        shape = (slots, spec.heads, capacity, spec.head_dim)
        self._heads = spec.heads
        self._token_bytes = spec.bytes_per_token // spec.heads
        self._head_bytes = self._token_bytes * capacity
        self._memory = mmap.mmap(-1, _whole_pages(slots * spec.heads * self._head_bytes), flags=_PRIVATE)
        self._advise("MADV_NOHUGEPAGE", 0, len(self._memory))  # a huge page would back tokens that aren't there
        self.values = np.frombuffer(self._memory, np.dtype(spec.dtype), math.prod(shape)).reshape(shape)

    def release(self, slot: int, start: int) -> None:
        """Hand back the whole pages of a slot's tokens from ``start`` on; they read as zeros when touched again."""
        first_head = slot * self._heads
        if start == 0:
            self._give_back(first_head * self._head_bytes, (first_head + self._heads) * self._head_bytes)
            return
        for head in range(first_head, first_head + self._heads):
            self._give_back(head * self._head_bytes + start * self._token_bytes, (head + 1) * self._head_bytes)

    def _give_back(self, start: int, end: int) -> None:
        first, last = _whole_pages(start), end // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            self._advise("MADV_DONTNEED", first, last - first)

    def _advise(self, advice: str, start: int, length: int) -> None:
        if hasattr(mmap, advice):  # Linux; elsewhere the pages stay
            self._memory.madvise(getattr(mmap, advice), start, length)


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
