"""What Headers, URLSearchParams and FormData share: a list of names and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .js_base import JsArray, JsProxy, null


class Pairs(JsProxy):
    """Names, which may repeat, with their values."""

    _pairs: list[tuple[str, Any]]

    def get(self, name: str) -> Any:
        return next(iter(self._found(name)), null())

    def getAll(self, name: str) -> JsArray:
        return JsArray(self._found(name))

    def has(self, name: str) -> bool:
        return bool(self._found(name))

    def delete(self, name: str) -> None:
        self._pairs = [pair for pair in self._pairs if pair[0] != self._key(name)]
        self._changed()

    def keys(self) -> JsArray:
        return JsArray([key for key, _ in self._read()])

    def values(self) -> JsArray:
        return JsArray([value for _, value in self._read()])

    def entries(self) -> JsArray:
        return JsArray([JsArray(list(pair)) for pair in self._read()])

    items = entries

    def forEach(self, function: Any) -> None:
        for key, value in self._read():
            function(value, key, self)

    def _found(self, name: str) -> list[Any]:
        return [value for key, value in self._pairs if key == self._key(name)]

    def _read(self) -> list[tuple[str, Any]]:
        """The pairs in the order, and the form, in which they are iterated."""
        return self._pairs

    def _key(self, name: str) -> str:
        return str(name)

    def _changed(self) -> None: ...

    def __iter__(self) -> Iterator[JsArray]:
        return iter(self.entries())
