"""JSON Schemas on their way to a grammar: their bounds, what a grammar makes of them, and where something stands.

Two things differ from the letter of a schema. An object with ``properties`` that doesn't speak of others gets no others
(xgrammar's strict mode does the same): every such answer is of the schema, and a weak model comes to an end. ``oneOf``
is ``anyOf`` to the grammar where its branches may overlap; the finished answer is checked (:func:`check`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jsonschema_rs

from runtime.errors import BadParameter, JsonUnmet

MAX_SCHEMA = 128 << 10
"""Bytes of JSON that a request's schemas may have together."""
_MAX_DEPTH = 64
_MAX_NAMES = 400  # of one object or choice: past some 500 a step's parser has too much to look at
# One space after a comma and a colon, as models write it; free white space is where weak ones go round for ever.
_STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,
    "coerce_one_of": True,
}
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_ALONE = ("items", "additionalItems", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")
_COMBINING = ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf")
_OF_OBJECTS = ("properties", "patternProperties", "required", "minProperties", "maxProperties")
_ABOUT_OTHERS = ("additionalProperties", "patternProperties", "unevaluatedProperties")
_Json = Mapping[str, Any]


def for_grammar(schema: _Json, path: str) -> str:
    """``schema`` as llguidance gets it. Raises :class:`BadParameter` past the bounds."""
    _refuse_size(schema, path)
    if _uses_one_of(schema):
        _validator(schema, path)
    closed = not any(_is_combined(inner) for _, inner in _schemas(schema))
    text = json.dumps({**_mapped(schema, _closed if closed else _without_idle), "x-guidance": _STYLE})
    if len(text) > MAX_SCHEMA:
        raise BadParameter(path, f"'{path}' is larger than {MAX_SCHEMA >> 10} KiB")
    return text


def check(schema: _Json, value: Any) -> None:
    """Raise :class:`JsonUnmet` where ``value``, which its grammar let pass, isn't of ``schema``."""
    if not _uses_one_of(schema):
        return
    error = next(_validator(schema, "/").iter_errors(value), None)
    if error is not None:
        place = "/" + "/".join(map(str, error.instance_path))
        raise JsonUnmet(
            f"the answer is not of the schema's oneOf at '{place}', which no grammar holds: {error.message}"
        )


def place_of(schema: _Json, keyword: str) -> str | None:
    """The JSON pointer of the first schema in ``schema`` that has ``keyword``."""
    return next((place or "/" for place, inner in _schemas(schema) if keyword in inner), None)


def _uses_one_of(schema: _Json) -> bool:
    return place_of(schema, "oneOf") is not None


def _validator(schema: _Json, path: str) -> Any:
    try:
        return jsonschema_rs.validator_for(dict(schema), retriever=_fetch_nothing)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise BadParameter(path, f"'{path}' is no JSON Schema: {str(error).splitlines()[0]}") from None


def _fetch_nothing(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is elsewhere")


def _schemas(schema: Any, place: str = "") -> Iterator[tuple[str, _Json]]:
    """Every schema within ``schema``, itself first, with its JSON pointer."""
    if not isinstance(schema, Mapping):
        return
    yield place, schema
    for keyword, value in schema.items():
        for name, inner in _inner(keyword, value):
            step = name.replace("~", "~0").replace("/", "~1")
            yield from _schemas(inner, f"{place}/{keyword}" + (f"/{step}" if step else ""))


def _inner(keyword: str, value: Any) -> Iterator[tuple[str, Any]]:
    if keyword in _BY_NAME and isinstance(value, Mapping):
        yield from ((str(name), inner) for name, inner in value.items())
    elif keyword in (*_LISTED, "items") and isinstance(value, list):
        yield from ((str(place), inner) for place, inner in enumerate(value))
    elif keyword in _ALONE:
        yield "", value


def _mapped(schema: Any, change: Callable[[dict[str, Any]], _Json]) -> Any:
    """``schema`` with every schema in it changed, the inner ones first."""
    if not isinstance(schema, Mapping):
        return schema
    changed: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _BY_NAME and isinstance(value, Mapping):
            changed[keyword] = {name: _mapped(inner, change) for name, inner in value.items()}
        elif keyword in (*_LISTED, "items") and isinstance(value, list):
            changed[keyword] = [_mapped(inner, change) for inner in value]
        else:
            changed[keyword] = _mapped(value, change) if keyword in _ALONE else value
    return change(changed)


def _without_idle(schema: dict[str, Any]) -> _Json:
    """Without what asks for nothing, but that llguidance doesn't know."""
    return {name: value for name, value in schema.items() if (name, value) != ("uniqueItems", False)}


def _closed(schema: dict[str, Any]) -> _Json:
    """Without names beyond its own, where it has some and says nothing of others."""
    told = _without_idle(schema)
    known = told.get("properties")
    if not isinstance(known, Mapping) or not known or any(name in told for name in _ABOUT_OTHERS):
        return told
    needed, least = told.get("required", []), told.get("minProperties", 0)
    names_them = isinstance(needed, list) and all(isinstance(name, str) and name in known for name in needed)
    enough = isinstance(least, int) and least <= len(known)
    return {**told, "additionalProperties": False} if names_them and enough else told


def _is_combined(schema: _Json) -> bool:
    """Whether one object may be described in several places, each of which would have to know the other's names."""
    all_of = schema.get("allOf")
    ways = sum(name in schema for name in _COMBINING) + (len(all_of) - 1 if isinstance(all_of, list) else 0)
    return ways > 1 or (ways == 1 and any(name in schema for name in _OF_OBJECTS))


def _refuse_size(value: Any, path: str, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise BadParameter(path, f"'{path}' is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, Mapping) and len(value) > _MAX_NAMES:
        raise BadParameter(path, f"'{path}' has an object of more than {_MAX_NAMES} names")
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for entry in inner:
        _refuse_size(entry, path, depth + 1)
