"""JSON, as JavaScript's object of that name has it."""

from __future__ import annotations

import json
from typing import Any

from .js_base import JsArray, JsException, JsObject, JsProxy, jsnull, type_error
from .js_convert import to_js


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
    return json.dumps(plain(value), ensure_ascii=False, indent=indent, separators=separators)


class JSON(JsProxy):
    """``JSON.parse`` and ``JSON.stringify``."""

    stringify = staticmethod(stringify)

    @staticmethod
    def parse(text: str) -> Any:
        try:
            return to_js(json.loads(text), objects=True)
        except ValueError as error:
            raise JsException(str(error), "SyntaxError") from error
