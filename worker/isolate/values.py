"""Values of calls as JSON: what JSON has no word for stands in an object with one ``$`` key.

Knows no JavaScript: each side says what becomes of a dict, a list and the rest.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Streamed:
    """Bytes that the Worker gets as a ReadableStream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Mapped:
    """A JavaScript Map."""

    entries: dict[str, Any]


def encode(value: Any) -> Any:
    """``value`` (None, bool, number, str, bytes, list, dict, :class:`Streamed`, :class:`Mapped`) as JSON takes it."""
    match value:
        case bytes() | bytearray() | memoryview():
            return {"$bytes": base64.b64encode(value).decode()}
        case Streamed(data):
            return {"$stream": base64.b64encode(data).decode()}
        case Mapped(entries):
            return {"$map": {key: encode(each) for key, each in entries.items()}}
        case dict():
            plain = {str(key): encode(each) for key, each in value.items()}
            return {"$dict": plain} if len(plain) == 1 and next(iter(plain)).startswith("$") else plain
        case list() | tuple():
            return [encode(each) for each in value]
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"a {type(value).__name__} can't be sent to a binding")


def decode(value: Any, make: Callable[[str, Any], Any] = lambda _, plain: plain) -> Any:
    """The value that was encoded. ``make(kind, plain)`` builds it: kinds bytes, stream, map, dict, list and null."""
    match value:
        case None:
            return make("null", None)
        case list():
            return make("list", [decode(each, make) for each in value])
        case dict():
            key = next(iter(value)) if len(value) == 1 else ""
            if key in ("$bytes", "$stream"):
                return make(key[1:], base64.b64decode(value[key]))
            if key in ("$map", "$dict"):
                return make(key[1:], {name: decode(each, make) for name, each in value[key].items()})
            return make("dict", {name: decode(each, make) for name, each in value.items()})
    return value
