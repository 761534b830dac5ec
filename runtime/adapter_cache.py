"""The adapters that one loaded model has in memory: those used last, within a bound, and those that requests hold."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakValueDictionary

from runtime.adapter import Adapter
from runtime.device import memory_share

MOST = 16
"""Adapters that are kept for requests to come."""
_SHARE = 0.1  # of the memory that this process may use, for all of them together


class AdapterCache:
    """Adapters by key. Threads: any. One that a request holds is never loaded twice, nor does it go before its end."""

    def __init__(self, *, most: int = MOST, size: int | None = None) -> None:
        self._most = most
        self._size = memory_share(_SHARE) if size is None else size
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Adapter] = OrderedDict()  # used longest ago first
        self._alive: WeakValueDictionary[str, Adapter] = WeakValueDictionary()

    def get(self, key: str, load: Callable[[], Adapter]) -> Adapter:
        """The adapter ``key``, now the one used last; loaded if it isn't there."""
        with self._lock:  # also while loading: whoever asks for the same gets the same
            adapter = self._alive.get(key)
            if adapter is None:
                adapter = self._alive[key] = load()
            self._kept[key] = adapter
            self._kept.move_to_end(key)
            while len(self._kept) > self._most or (self._taken > self._size and len(self._kept) > 1):
                self._kept.popitem(last=False)
            return adapter

    def loaded(self) -> list[Adapter]:
        """What is in memory, by name."""
        alive = (reference() for reference in self._alive.valuerefs())  # a copy, whoever loads meanwhile
        return sorted((one for one in alive if one is not None), key=lambda adapter: adapter.name)

    @property
    def _taken(self) -> int:
        return sum(adapter.size for adapter in self._kept.values())
