"""What an adapted graph reads of the adapters in a step: their factors side by side, and which row has which.

The graph is ``lora_graph``'s. A step with one adapter reads its own arrays; one with several reads a stack, into which
only those are copied that weren't there in the step before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from runtime.adapter import PANEL, Adapter
from runtime.scheduler import Span


class Input(Protocol):
    """An input of a graph, as ONNX Runtime tells of it."""

    name: str
    type: str


Factors: TypeAlias = Mapping[str, tuple[NDArray[Any], NDArray[Any]]]
Version: TypeAlias = tuple[int, ...]
_NOBODY = -1

ROWS, TAKEN, PLACES = "lora.rows", "lora.taken", "lora.places"


class LoraInputs:
    """An adapted graph's ``inputs`` beside a decoder's own. ``widths``: what its products read and give, by kind."""

    def __init__(self, inputs: Iterable[Input], widths: Mapping[str, tuple[int, int]]) -> None:
        self.widths = dict(widths)
        factors = {entry.name: entry.type for entry in inputs if entry.name.endswith(".a")}
        names = (name.removeprefix("lora.").removesuffix(".a") for name in factors)
        self._products = {product: product.split(".")[1] for product in names}
        dtype = np.dtype(np.float16 if "tensor(float16)" in factors.values() else np.float32)
        self._stack = _Stack(dtype)
        # Without adapters a product has no ranks at all.
        self._none = {
            kind: (np.zeros((1, 1, width, 0), dtype), np.zeros((1, 0, outputs), dtype))
            for kind, (width, outputs) in widths.items()
        }
        self._bound: WeakKeyDictionary[Any, Version] = WeakKeyDictionary()

    def bind(self, binding: Any, spans: Sequence[Span]) -> dict[str, NDArray[Any]]:
        """Bind the factors that the step over ``spans`` reads to ``binding``; the inputs that are left to bind."""
        adapters = list({span.adapter.serial: span.adapter for span in spans if span.adapter is not None}.values())
        seats = self._stack.arrange(adapters) if len(adapters) > 1 else [adapter.serial for adapter in adapters]
        version = (self._stack.version, *seats) if len(adapters) > 1 else tuple(seats)
        if self._bound.get(binding) != version:
            self._bind_factors(binding, self._factors(adapters))
            self._bound[binding] = version
        return _rows(spans, seats)

    def _factors(self, adapters: Sequence[Adapter]) -> Factors:
        match adapters:
            case []:
                return {}
            case [only]:
                return {product: (a[None], b[None]) for product, (a, b) in only.factors.items()}
        return self._stack.factors

    def _bind_factors(self, binding: Any, factors: Factors) -> None:
        for product, kind in self._products.items():
            a, b = factors.get(product, self._none[kind])
            _bind(binding, f"lora.{product}.a", a)
            _bind(binding, f"lora.{product}.b", b)


class _Stack:
    """Copies of several adapters' factors, one behind the other. Whoever stays keeps its seat."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._arrays: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        self._seats: list[int] = []  # serials; those behind the seated ones are left from before
        self._seated = 0
        self.version = 0

    @property
    def factors(self) -> Factors:
        """The factors of those who are seated, in their order."""
        return {name: (a[: self._seated], b[: self._seated]) for name, (a, b) in self._arrays.items()}

    def arrange(self, adapters: Sequence[Adapter]) -> list[int]:
        """Let the stack begin with ``adapters``, in any order: their serials in it."""
        count, missing = len(adapters), {adapter.serial: adapter for adapter in adapters}
        if self._seated == count and missing.keys() == set(self._seats[:count]):
            return self._seats[:count]
        if not self._fits(adapters):
            self._grow(adapters)
        free = [seat for seat in range(count) if missing.pop(self._seats[seat], None) is None]
        for seat, adapter in zip(free, missing.values(), strict=True):
            self._take(seat, adapter)
        self._seated = count
        self.version += 1
        return self._seats[:count]

    def _fits(self, adapters: Sequence[Adapter]) -> bool:
        if len(adapters) > len(self._seats):
            return False
        wanted = ((name, len(a)) for adapter in adapters for name, (a, _) in adapter.factors.items())
        return all(name in self._arrays and panels <= self._arrays[name][0].shape[1] for name, panels in wanted)

    def _grow(self, adapters: Sequence[Adapter]) -> None:
        """Other arrays, with room for ``adapters``; everybody comes anew."""
        seats = len(self._seats) if len(adapters) <= len(self._seats) else max(len(adapters), 2 * len(self._seats))
        panels: dict[str, int] = {}
        for adapter in adapters:
            panels |= {name: max(len(a), panels.get(name, 0)) for name, (a, _) in adapter.factors.items()}
        sizes = {name: (a.shape[1], b.shape[1]) for adapter in adapters for name, (a, b) in adapter.factors.items()}
        self._arrays = {
            name: (
                np.zeros((seats, panels[name], inputs, PANEL), self._dtype),
                np.zeros((seats, panels[name] * PANEL, outputs), self._dtype),
            )
            for name, (inputs, outputs) in sizes.items()
        }
        self._seats = [_NOBODY] * seats

    def _take(self, seat: int, adapter: Adapter) -> None:
        for name, (a, b) in self._arrays.items():
            a[seat], b[seat] = 0, 0
            if name in adapter.factors:
                own_a, own_b = adapter.factors[name]
                a[seat, : len(own_a)], b[seat, : len(own_b)] = own_a, own_b
        self._seats[seat] = adapter.serial


def _rows(spans: Sequence[Span], seats: Sequence[int]) -> dict[str, NDArray[Any]]:
    """:data:`ROWS`, :data:`TAKEN` and :data:`PLACES` for rows whose adapters sit in ``seats``."""
    length, steps = len(spans[0].tokens), np.arange(len(spans[0].tokens))
    serials = [_NOBODY if span.adapter is None else span.adapter.serial for span in spans]
    members = [[row for row, serial in enumerate(serials) if serial == seat] for seat in seats] or [[]]
    most = max(map(len, members)) * length
    plain = [row for row, serial in enumerate(serials) if serial == _NOBODY]
    full = all(len(rows) * length == most for rows in members)
    width = max(most + (full and bool(plain)), 2 if seats else 1)  # a place for nobody; never a product of one row
    rows = np.zeros((len(members), 1, width, 2), np.int64)
    taken = np.zeros((len(members), 1, width, 1), np.bool_)
    places = np.zeros((len(spans), length, 2), np.int64)
    for seat, mine in enumerate(members):
        count = len(mine) * length
        rows[seat, 0, :count] = np.stack([np.repeat(mine, length), np.tile(steps, len(mine))], axis=-1)
        taken[seat, 0, :count] = True
        for place, row in enumerate(mine):
            places[row, :, 0], places[row, :, 1] = seat, place * length + steps
    if plain:
        places[plain] = (next(seat for seat, mine in enumerate(members) if len(mine) * length < width), width - 1)
    return {ROWS: rows, TAKEN: taken, PLACES: places}


def _bind(binding: Any, name: str, values: NDArray[Any]) -> None:
    binding.bind_input(name, "cpu", 0, values.dtype.type, values.shape, values.ctypes.data)
