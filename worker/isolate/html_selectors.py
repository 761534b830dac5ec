"""CSS selectors as HTMLRewriter takes them, matched against the elements that are open while a page goes by.

Types, ``*``, classes, ids, attributes, ``:nth-child`` and its kin, ``:not``, descendants and children: see
https://developers.cloudflare.com/workers/runtime-apis/html-rewriter/#selectors
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from .js_base import type_error


@dataclass(slots=True)
class Node:
    """An open element. ``place`` and ``place_of_type``: which child of its parent it is, from 1."""

    name: str
    attributes: dict[str, str]
    place: int = 1
    place_of_type: int = 1
    children: int = 0
    types: Counter[str] = field(default_factory=Counter)


Test: TypeAlias = Callable[[Node], bool]
_IDENT = r"(?:\\.|[\w-]|[^\x00-\x7f])+"
_SIMPLE = re.compile(
    rf"""(?P<type>{_IDENT}|\*)
    |\#(?P<id>{_IDENT})
    |\.(?P<class>{_IDENT})
    |\[\s*(?P<attribute>{_IDENT})\s*(?:(?P<operator>[~|^$*]?=)\s*
        (?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>{_IDENT}))\s*(?P<flag>[iIsS])?\s*)?\]
    |:(?P<pseudo>[\w-]+)(?:\((?P<argument>(?:[^()"']|"[^"]*"|'[^']*')*)\))?""",
    re.VERBOSE,
)
_NTH = re.compile(r"\s*(?:(?P<a>[+-]?\d*)n\s*(?:(?P<sign>[+-])\s*(?P<b>\d+))?|(?P<only>[+-]?\d+))\s*$", re.IGNORECASE)


class Selector:
    """A list of selectors, of which one has to match."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ways = [self._parsed(part) for part in _split(text)]

    def matches(self, path: Sequence[Node]) -> bool:
        """Whether the last of ``path``, the open elements from the root on, is selected."""
        return any(_matches(steps, path, len(steps) - 1, len(path) - 1) for steps in self._ways)

    def _parsed(self, text: str) -> list[tuple[bool, Test]]:
        """Compound selectors, each with whether it is a child of the one before."""
        steps: list[tuple[bool, Test]] = []
        place, child = 0, False
        text = text.strip()
        while place < len(text):
            tests, stop = self._compound(text, place)
            steps.append((child, _all(tests)))
            joined = re.compile(r"\s*(>)\s*|\s+").match(text, stop)
            if joined is None and stop < len(text):
                raise self._wrong()
            child = joined is not None and joined[1] is not None
            place = stop if joined is None else joined.end()
        if not steps or child:
            raise self._wrong()
        return steps

    def _compound(self, text: str, place: int) -> tuple[list[Test], int]:
        tests: list[Test] = []
        while (found := _SIMPLE.match(text, place)) is not None:
            if found["type"] and tests:
                break
            tests.append(self._test(found))
            place = found.end()
        if not tests:
            raise self._wrong()
        return tests, place

    def _test(self, found: re.Match[str]) -> Test:
        if name := found["type"]:
            name = name.lower()
            return lambda node: name in ("*", node.name)
        if (wanted := found["id"]) is not None:
            wanted = _plain(wanted)
            return lambda node: node.attributes.get("id") == wanted
        if (wanted := found["class"]) is not None:
            wanted = _plain(wanted)
            return lambda node: wanted in node.attributes.get("class", "").split()
        return self._attribute(found) if found["attribute"] else self._pseudo(found)

    def _attribute(self, found: re.Match[str]) -> Test:
        name, operator = _plain(found["attribute"]), found["operator"]
        if operator is None:
            return lambda node: name in node.attributes
        fold: Callable[[str], str] = str.lower if (found["flag"] or "").lower() == "i" else str
        given = next(value for value in (found["double"], found["single"], found["bare"]) if value is not None)
        wanted = fold(_plain(given))
        compare = _OPERATORS[operator]
        return lambda node: name in node.attributes and compare(fold(node.attributes[name]), wanted)

    def _pseudo(self, found: re.Match[str]) -> Test:
        name, argument = found["pseudo"].lower(), found["argument"]
        if name in ("first-child", "first-of-type"):
            name, argument = f"nth-{name.removeprefix('first-')}", "1"
        if name == "not" and argument:
            tests = [_all(self._whole(part)) for part in _split(argument)]
            return lambda node: not any(test(node) for test in tests)
        if name not in ("nth-child", "nth-of-type") or not argument:
            raise self._wrong()
        word = {"odd": "2n+1", "even": "2n"}.get(argument.strip().lower(), argument)
        if (parts := _NTH.match(word)) is None:
            raise self._wrong()
        step = int(f"{parts['a']}1" if parts["a"] in ("", "+", "-") else parts["a"]) if parts["only"] is None else 0
        first = int(parts["only"] or f"{parts['sign'] or ''}{parts['b'] or 0}")
        if name == "nth-child":
            return lambda node: _counts(node.place, step, first)
        return lambda node: _counts(node.place_of_type, step, first)

    def _whole(self, text: str) -> list[Test]:
        tests, stop = self._compound(text := text.strip(), 0)
        if stop < len(text):
            raise self._wrong()
        return tests

    def _wrong(self) -> Exception:
        return type_error(f"Parser error: HTMLRewriter doesn't take the selector {self._text!r}")


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda value, wanted: value == wanted,
    "~=": lambda value, wanted: wanted in value.split(),
    "|=": lambda value, wanted: value == wanted or value.startswith(f"{wanted}-"),
    "^=": lambda value, wanted: wanted != "" and value.startswith(wanted),
    "$=": lambda value, wanted: wanted != "" and value.endswith(wanted),
    "*=": lambda value, wanted: wanted != "" and wanted in value,
}


def _matches(steps: list[tuple[bool, Test]], path: Sequence[Node], step: int, place: int) -> bool:
    child, test = steps[step]
    if place < 0 or not test(path[place]):
        return False
    if step == 0:
        return True
    above = [place - 1] if child else range(place - 1, -1, -1)
    return any(_matches(steps, path, step - 1, each) for each in above)


def _all(tests: list[Test]) -> Test:
    return lambda node: all(test(node) for test in tests)


def _counts(place: int, step: int, first: int) -> bool:
    if step == 0:
        return place == first
    return (place - first) % step == 0 and (place - first) // step >= 0


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


_PART = re.compile(
    r"""(?:[^,"'(\[]|"[^"]*"|'[^']*'|\((?:[^)"']|"[^"]*"|'[^']*')*\)|\[(?:[^\]"']|"[^"]*"|'[^']*')*\]|[\[("'])+"""
)


def _split(text: str) -> list[str]:
    """``text`` at its commas, but for those in brackets and quotes."""
    return _PART.findall(text) or [""]
