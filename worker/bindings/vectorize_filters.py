"""Vectorize's filters of metadata: developers.cloudflare.com/vectorize/reference/metadata-filtering.

A property that a vector lacks is null: it equals null, and differs from all else.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import Any, TypeAlias

SIZE, KEY = 2048, 512  # bytes of a filter as JSON, characters of a key
_KEPT = 64  # bytes of a text that an index of metadata keeps
_COMPARED = {"$lt": operator.lt, "$lte": operator.le, "$gt": operator.gt, "$gte": operator.ge}
_SINGLE, _LISTED = ("$eq", "$ne"), ("$in", "$nin")
Wanted: TypeAlias = Mapping[str, Mapping[str, Any]]


class BadFilter(ValueError):
    """A filter that means nothing; one sentence says why."""


def checked(given: Any) -> Wanted:
    """For each property, with dots, its operators and their values; raises :class:`BadFilter`."""
    if given is None:
        return {}
    if not isinstance(given, dict) or not given:
        raise BadFilter("a filter is an object that names at least one property")
    if len(json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()) >= SIZE:
        raise BadFilter(f"a filter is smaller than {SIZE} bytes of JSON")
    return {key: _operators(key, value) for key, value in given.items()}


def meets(metadata: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether ``metadata`` has what is wanted of every property."""
    return all(_holds(_at(metadata, key), name, value) for key, each in wanted.items() for name, value in each.items())


def indexed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What an index of metadata would keep: texts, cut to 64 bytes, numbers and booleans."""
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        if isinstance(value, dict):
            found[key] = indexed(value)
        elif isinstance(value, str):
            found[key] = value.encode()[:_KEPT].decode(errors="ignore")
        elif isinstance(value, bool | int | float):
            found[key] = value
    return found


def _operators(key: str, value: Any) -> dict[str, Any]:
    if not key or len(key) > KEY or key.startswith("$") or '"' in key:
        raise BadFilter(f'{key!r} is no property: 1 to {KEY} characters without ", and no $ at the start')
    if not isinstance(value, dict):
        value = {"$eq": value}
    if not value:
        raise BadFilter(f"{key} has no operator")
    for name, operand in value.items():
        if name in _LISTED:
            if not isinstance(operand, list) or not operand or not all(map(_plain, operand)):
                raise BadFilter(f"{name} of {key} is a list of texts, numbers, booleans or nulls")
        elif name in _COMPARED:
            if isinstance(operand, bool) or not isinstance(operand, str | int | float):
                raise BadFilter(f"{name} of {key} is a text or a number")
        elif name not in _SINGLE:
            raise BadFilter(f"{name} of {key} is none of {', '.join((*_SINGLE, *_LISTED, *_COMPARED))}")
        elif not _plain(operand):
            raise BadFilter(f"{name} of {key} is a text, a number, a boolean or null")
    if len(value) > 1 and not _is_range(value):
        raise BadFilter(f"{key} has several operators, which only a range may: one of $gt, $gte and one of $lt, $lte")
    return dict(value)


def _is_range(value: Mapping[str, Any]) -> bool:
    return len(value) == 2 and len({"$gt", "$gte"} & {*value}) == len({"$lt", "$lte"} & {*value}) == 1


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _at(metadata: Any, key: str) -> Any:
    """What stands under a key with dots, which may be part of a name, too."""
    if not isinstance(metadata, Mapping):
        return None
    if key in metadata:
        return metadata[key]
    first, dot, rest = key.partition(".")
    return _at(metadata.get(first), rest) if dot else None


def _holds(found: Any, name: str, value: Any) -> bool:
    if name in _LISTED:
        return any(_same(found, each) for each in value) == (name == "$in")
    if name in _SINGLE:
        return _same(found, value) == (name == "$eq")
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (found, value))
    texts = isinstance(found, str) and isinstance(value, str)
    return (numbers or texts) and bool(_COMPARED[name](found, value))


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
