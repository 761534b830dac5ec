"""JSON, as JavaScript's object of that name has it."""

from __future__ import annotations

import json
import math
from typing import Any

from .js_base import JsArray, JsException, JsObject, JsProxy, jsnull, null, type_error

_SAFE = 2**53 - 1
_EXPONENT = 1e21  # from here on JavaScript writes an exponent


def plain(value: Any) -> Any:
    """``value`` as :mod:`json` takes it; a Python dict or list is named as what it is, a mistake on the platform."""
    if value is jsnull:
        return None
    if isinstance(value, JsObject):
        return {key: plain(each) for key, each in value.as_object_map().items() if each is not None}
    if isinstance(value, JsArray):
        return [plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, JsProxy):
        to_json = getattr(value, "toJSON", None)
        return to_json() if to_json is not None else {}
    raise type_error(
        f"a Python {type(value).__name__} reached JavaScript as it is: give it "
        "to_js(value, dict_converter=Object.fromEntries), or take env from a WorkerEntrypoint or @handler"
    )


def stringify(value: Any, _replacer: Any = None, space: Any = None) -> str:
    """``value`` as JSON text."""
    indent = int(space) if isinstance(space, int | float) and space else None
    separators = (",", ": ") if indent else (",", ":")
    return json.dumps(_numbered(plain(value)), ensure_ascii=False, indent=indent, separators=separators)


def parse(text: str | bytes) -> Any:
    """What a JSON text says, as JavaScript's values; raises a SyntaxError."""
    try:
        return _javascript(json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_refuse))
    except ValueError as error:
        raise JsException(str(error), "SyntaxError") from error


def _javascript(value: Any) -> Any:
    if isinstance(value, dict):
        return JsObject({key: _javascript(each) for key, each in value.items()})
    if isinstance(value, list):
        return JsArray([_javascript(each) for each in value])
    return null() if value is None else value


def _number(text: str) -> int | float:
    """A number as Python gets it from JavaScript, which has doubles alone: an int where it is safely whole."""
    number = float(text)
    return int(number) if abs(number) <= _SAFE and number.is_integer() else number


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _numbered(value: Any) -> Any:
    """``value`` with its floats as JavaScript writes them: 2.0 is 2, and what isn't finite is null."""
    if isinstance(value, dict):
        return {key: _numbered(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbered(each) for each in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < _EXPONENT else value


class JSON(JsProxy):
    """``JSON.parse`` and ``JSON.stringify``."""

    stringify = staticmethod(stringify)

    parse = staticmethod(parse)
