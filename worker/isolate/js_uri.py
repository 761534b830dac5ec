"""``encodeURIComponent`` and its kin."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from .js_base import JsException

_COMPONENT = "!'()*"  # and what urllib never quotes
_RESERVED = ";/?:@&=+$,#"
_QUOTED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


def _decoder(kept: str) -> Callable[[Any], str]:
    def decode(text: Any) -> str:
        found = str(text)
        if re.search(r"%(?![0-9A-Fa-f]{2})", found):
            raise JsException("URI malformed", "URIError")
        return _QUOTED.sub(_decoded, found)

    def _decoded(match: re.Match[str]) -> str:
        try:
            decoded = unquote_to_bytes(match[0]).decode()
        except UnicodeDecodeError as error:
            raise JsException("URI malformed", "URIError") from error
        return "".join(quote(each, safe="") if each in kept else each for each in decoded)

    return decode


URI: dict[str, Any] = {
    "encodeURIComponent": lambda text: quote(str(text), safe=_COMPONENT),
    "encodeURI": lambda text: quote(str(text), safe=_COMPONENT + _RESERVED),
    "decodeURIComponent": _decoder(""),
    "decodeURI": _decoder(_RESERVED),
}
"""The four functions by their names."""
