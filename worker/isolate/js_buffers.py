"""ArrayBuffer and the typed arrays over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .js_base import JsProxy, JsType, type_error


class JsBuffer(JsProxy):
    """What holds bytes."""

    _view: Any

    def to_py(self, *, depth: int = -1, default_converter: Callable[..., Any] | None = None) -> Any:
        return _cast(bytearray(self.to_bytes()), self._view.format)

    def to_memoryview(self) -> Any:
        return self.to_py()

    def to_bytes(self) -> bytes:
        return bytes(self._view)

    def to_string(self, encoding: str = "utf-8") -> str:
        return self.to_bytes().decode(encoding)

    @property
    def byteLength(self) -> int:
        return int(self._view.nbytes)

    def __bytes__(self) -> bytes:
        return self.to_bytes()

    def __len__(self) -> int:
        return len(self._view)


class ArrayBuffer(JsBuffer):
    """``ArrayBuffer.new(length)``; within roost also around bytes."""

    def __init__(self, data: int | bytes | bytearray | memoryview = 0) -> None:
        self._view = memoryview(bytearray(data))

    def slice(self, start: int = 0, end: int | None = None) -> ArrayBuffer:
        return ArrayBuffer(self._view[slice(start, end)])

    @staticmethod
    def isView(value: Any) -> bool:
        return isinstance(value, TypedArray)


class TypedArray(JsBuffer):
    """A view of numbers. Made of a length, of numbers, of another view, of an ArrayBuffer, or of Python's bytes."""

    _format = "B"
    _clamps = False

    def __init__(self, source: Any = 0, offset: int = 0, length: int | None = None) -> None:
        size = _cast(bytes(8), self._format).itemsize
        if isinstance(source, int):
            source = ArrayBuffer(source * size)
        elif isinstance(source, bytes | bytearray | memoryview):
            source = ArrayBuffer(source)
        if isinstance(source, ArrayBuffer):
            self.buffer = source
            end = None if length is None else offset + length * size
            self._view = _cast(source._view[offset:end], self._format)
            return
        numbers = list(source)
        self.buffer = ArrayBuffer(len(numbers) * size)
        self._view = _cast(self.buffer._view, self._format)
        for place, number in enumerate(numbers):
            self[place] = number

    @property
    def length(self) -> int:
        return len(self._view)

    def slice(self, start: int = 0, end: int | None = None) -> TypedArray:
        return type(self)(ArrayBuffer(self._view[slice(start, end)].tobytes()))

    def set(self, values: Iterable[Any], offset: int = 0) -> None:
        for place, value in enumerate(values):
            self[offset + place] = value

    def assign(self, data: Any) -> None:
        self._view.cast("B")[:] = memoryview(data).cast("B")

    def subarray(self, start: int = 0, end: int | None = None) -> TypedArray:
        made = type(self)(0)
        made.buffer, made._view = self.buffer, self._view[slice(start, end)]
        return made

    @classmethod
    def from_(cls, values: Iterable[Any]) -> TypedArray:
        return cls(list(values))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._view)

    def __getitem__(self, place: Any) -> Any:
        found = self._view[place]
        return self.subarray(place.start or 0, place.stop) if isinstance(place, slice) else found

    def __setitem__(self, place: int, value: Any) -> None:
        if self._format in "fd":
            self._view[place] = value
            return
        bits = self._view.itemsize * 8
        whole = max(0, min(255, round(value))) if self._clamps else int(value) & ((1 << bits) - 1)
        signed = self._format.islower() and whole >= 1 << (bits - 1)
        self._view[place] = whole - (1 << bits) if signed else whole

    def __repr__(self) -> str:
        return ",".join(str(number) for number in self._view)


class Uint8Array(TypedArray):
    """Bytes."""


_FORMATS = {
    "Int8Array": "b",
    "Uint16Array": "H",
    "Int16Array": "h",
    "Uint32Array": "I",
    "Int32Array": "i",
    "Float32Array": "f",
    "Float64Array": "d",
}
ARRAYS: dict[str, Any] = {
    "ArrayBuffer": ArrayBuffer,
    "Uint8Array": Uint8Array,
    "Uint8ClampedArray": JsType("Uint8ClampedArray", (TypedArray,), {"_clamps": True}),
    **{name: JsType(name, (TypedArray,), {"_format": number}) for name, number in _FORMATS.items()},
}
"""The classes by their names."""


def array_of(data: bytes | bytearray | memoryview) -> TypedArray:
    """The typed array of Python's buffer ``data``, by its format."""
    number = data.format if isinstance(data, memoryview) else "B"
    kind = next((each for each in ARRAYS.values() if getattr(each, "_format", None) == number), Uint8Array)
    made: TypedArray = kind(bytes(data))
    return made


def _cast(data: Any, number: str) -> Any:
    return memoryview(data).cast(number)  # type: ignore[call-overload]  # which wants the letter as a literal


def bytes_of(value: Any) -> bytes:
    """The bytes of a string, of anything that holds bytes, or of a Python buffer."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, JsBuffer):
        return value.to_bytes()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise type_error(f"expected a string or bytes, got {type(value).__name__}")
