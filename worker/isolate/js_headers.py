"""Headers: names in lower case, values joined by commas when read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .js_base import JsArray, JsObject, null, type_error
from .js_pairs import Pairs

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110


class Headers(Pairs):
    """``Headers.new(init)``: of pairs, of an object, of other Headers."""

    def __init__(self, init: Any = None) -> None:
        self._pairs = []
        for name, value in _pairs(init):
            self.append(name, value)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every header as it was appended."""
        return self._pairs

    def append(self, name: str, value: Any) -> None:
        text = str(value).strip(" \t\r\n")
        if not _NAME.fullmatch(str(name)):
            raise type_error(f"Invalid header name: {name!r}.")
        if "\n" in text or "\r" in text or "\0" in text:
            raise type_error("Invalid header value.")
        self._pairs.append((self._key(name), text))

    def set(self, name: str, value: Any) -> None:
        self.delete(name)
        self.append(name, value)

    def get(self, name: str) -> Any:
        found = self._found(name)
        return ", ".join(found) if found else null()

    def getSetCookie(self) -> JsArray:
        return self.getAll("set-cookie")

    def _key(self, name: str) -> str:
        return str(name).lower()

    def _read(self) -> list[tuple[str, str]]:
        joined: dict[str, list[str]] = {}
        for key, value in self._pairs:
            joined.setdefault(key, []).append(value)
        pairs: list[tuple[str, str]] = []
        for key in sorted(joined):
            values = joined[key] if key == "set-cookie" else [", ".join(joined[key])]
            pairs += [(key, value) for value in values]
        return pairs

    def __contains__(self, name: object) -> bool:
        return self.has(str(name))

    def __getitem__(self, name: str) -> Any:
        if not self.has(name):
            raise KeyError(name)
        return self.get(name)


def length_in(pairs: Iterable[Iterable[str]]) -> int | None:
    """What a content-length among ``pairs`` says."""
    said = {name.lower(): value for name, value in pairs}.get("content-length", "")
    return int(said) if said.isdecimal() else None


def _pairs(init: Any) -> Iterable[tuple[str, Any]]:
    if init is None or init is null():
        return []
    if isinstance(init, Headers):
        return init.pairs
    if isinstance(init, JsObject):
        return init.as_object_map().items()
    if isinstance(init, Mapping):
        return init.items()
    return [(name, value) for name, value in init]
