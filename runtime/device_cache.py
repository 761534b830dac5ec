"""The keys and values of every slot on a GPU: one slab per layer and side, allocated once, whole.

The verbs are :class:`runtime.kv_cache.KVCache`'s. A GPU has no pages that come as they are written: what slots may
hold is taken at once, and a release gives nothing back. It is the driver's memory, not ONNX Runtime's: the arena behind
its tensors grows in powers of two, and keeps what a model that was unloaded had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.cuda_driver import Context
from runtime.errors import DeviceFull, DeviceUnavailable
from runtime.kv_cache import Place, SlabSpec
from runtime.scheduler import CacheOp, Move


class DeviceCache:
    """Slabs by name on CUDA device ``index``, each with ``slots`` slots of ``capacity`` tokens."""

    def __init__(self, specs: Mapping[str, SlabSpec], *, slots: int, capacity: int, index: int) -> None:
        self.bytes_per_token = sum(spec.bytes_per_token for spec in specs.values())
        self._specs, self._capacity, self._index = dict(specs), capacity, index
        self._context = Context(index)
        self._sizes = {name: slots * capacity * spec.bytes_per_token for name, spec in specs.items()}
        self._slabs: dict[str, int] = {}
        try:
            for name, size in self._sizes.items():
                self._slabs[name] = self._context.allocate(size)
            self.fill(0)  # a masked score times whatever lay there before could still be no number
        except DeviceUnavailable as error:
            self.close()
            need = f"{sum(self._sizes.values()) / 1e9:.1f} GB"
            raise DeviceFull(f"cuda:{index} has no {need} for the KV cache of {slots} slots: {error}") from error

    def places(self, slot: int, slots: int) -> dict[str, Place]:
        """Where slots ``slot`` to ``slot + slots - 1`` of every slab lie."""
        return {name: self._place(name, slot, slots) for name in self._specs}

    def apply(self, op: CacheOp, *, offset: int = 0) -> None:
        """Carry out a copy; ``offset`` is added to the slots it names. A release changes nothing here."""
        match op:
            case Move(source, target, length, start) if length > start:
                self._context.synchronise()  # the driver's copies and ONNX Runtime's streams don't wait for each other
                for name, spec in self._specs.items():
                    self._copy(name, spec, source + offset, target + offset, start, length)
                self._context.synchronise()

    def kept(self, slot: int, tokens: int) -> dict[str, NDArray[Any]]:
        """A copy of a slot's first ``tokens`` by input name: ``[kv_heads, tokens, head_dim]``."""
        self._context.synchronise()
        found = {}
        for name, spec in self._specs.items():
            values = np.empty((spec.heads, tokens, spec.head_dim), spec.dtype)
            row, token = self._strides(spec)
            address = self._place(name, slot, 1).address
            self._context.read_rows(address, values.ctypes.data, width=tokens * token, rows=spec.heads, pitch=row)
            found[name] = values
        self._context.synchronise()
        return found

    def fill(self, byte: int) -> None:
        """Set every byte of every slab."""
        for name, address in self._slabs.items():
            self._context.fill(address, byte, self._sizes[name])
        self._context.synchronise()

    def close(self) -> None:
        """Give everything back. Idempotent."""
        while self._slabs:
            self._context.free(self._slabs.popitem()[1])
        self._context.close()

    def _copy(self, name: str, spec: SlabSpec, source: int, target: int, start: int, length: int) -> None:
        row, token = self._strides(spec)
        places = (self._place(name, slot, 1).address + start * token for slot in (source, target))
        self._context.copy_rows(*places, width=(length - start) * token, rows=spec.heads, pitch=row)

    def _place(self, name: str, slot: int, slots: int) -> Place:
        spec = self._specs[name]
        address = self._slabs[name] + slot * spec.heads * self._strides(spec)[0]
        shape = (slots, spec.heads, self._capacity, spec.head_dim)
        return Place("cuda", self._index, np.dtype(spec.dtype).type, shape, address)

    def _strides(self, spec: SlabSpec) -> tuple[int, int]:
        """Bytes from one head's tokens to the next head's, and from one token to the next."""
        token = spec.bytes_per_token // spec.heads
        return self._capacity * token, token
