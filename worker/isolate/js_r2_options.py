"""The options of R2's calls as they go to roost, and what workerd refuses of them before they go anywhere."""

from __future__ import annotations

import datetime
import email.utils
import re
from typing import Any

from .js_base import JsException, JsObject, from_js, jsnull, option, type_error
from .js_buffers import bytes_of
from .js_dates import Date
from .js_headers import Headers

HTTP_FIELDS = {
    "contentType": "content-type",
    "contentLanguage": "content-language",
    "contentDisposition": "content-disposition",
    "contentEncoding": "content-encoding",
    "cacheControl": "cache-control",
    "cacheExpiry": "expires",
}
_HASHES = {
    "md5": ("MD5", 16),
    "sha1": ("SHA-1", 20),
    "sha256": ("SHA-256", 32),
    "sha384": ("SHA-384", 48),
    "sha512": ("SHA-512", 64),
}
_INCLUDED = ("httpMetadata", "customMetadata")
_ETAG = re.compile(r'\s*(?:(?P<wildcard>\*)|(?P<weak>W/)?"(?P<value>[^"]*)")\s*')


def milliseconds(value: Any) -> int:
    """A Date, a number, or an HTTP date, as milliseconds since 1970."""
    if isinstance(value, Date):
        return int(value.getTime())
    if isinstance(value, datetime.datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, int | float):
        return int(value)
    try:
        return int(email.utils.parsedate_to_datetime(str(value)).timestamp() * 1000)
    except ValueError:
        return int(Date.parse(str(value)))


def http_metadata(options: Any) -> dict[str, Any]:
    """The option ``httpMetadata``: an object, or the headers of a request."""
    given = option(options, "httpMetadata")
    found: dict[str, Any] = {}
    for name, header in HTTP_FIELDS.items():
        value = given.get(header) if isinstance(given, Headers) else option(given, name)
        if value is not None and value is not jsnull:
            found[name] = milliseconds(value) if name == "cacheExpiry" else str(value)
    return found


def custom_metadata(options: Any) -> dict[str, str]:
    """The option ``customMetadata``."""
    given = from_js(option(options, "customMetadata")) or {}
    return {str(name): str(value) for name, value in given.items()}


def digests(options: Any) -> dict[str, str]:
    """The checksum that is given, in hex, by its algorithm."""
    found: dict[str, str] = {}
    for name, (spelt, size) in _HASHES.items():
        if (given := option(options, name)) is None:
            continue
        if found:
            raise type_error("You cannot specify multiple hashing algorithms.")
        if isinstance(given, str):
            if len(given) != size * 2:
                raise type_error(f"{spelt} is {size * 2} hex characters, not {len(given)}")
            if not re.fullmatch("[0-9a-fA-F]*", given):
                raise type_error(f"Provided {spelt} wasn't a valid hex string")
            found[name] = given.lower()
            continue
        if len(data := bytes_of(given)) != size:
            raise type_error(f"{spelt} is {size} bytes, not {len(data)}")
        found[name] = data.hex()
    return found


def range_of(options: Any) -> Any:
    """The option ``range``: an object, or a text for a Range header."""
    given = option(options, "range")
    if given is None:
        return None
    if isinstance(given, Headers):
        header = given.get("range")
        return header if isinstance(header, str) else None
    found = {name: value for name in ("offset", "length", "suffix") if (value := option(given, name)) is not None}
    for name in ("offset", "length"):
        if "suffix" in found and name in found:
            raise type_error(f"Suffix is incompatible with {name}.")
    for name, value in found.items():
        start, whole = {
            "offset": ("Invalid range. Starting offset", "Invalid range. Starting offset"),
            "length": ("Invalid range. Length", "Invalid range. Length"),
            "suffix": ("Invalid suffix. Suffix", "Invalid range. Suffix"),
        }[name]
        if value < 0:
            raise JsException(f"{start} ({value}) must be greater than or equal to 0.", "RangeError")
        if value != int(value):
            raise JsException(f"{whole} ({value}) must be an integer, not floating point.", "RangeError")
    return {name: int(value) for name, value in found.items()}


def condition(options: Any) -> dict[str, Any] | None:
    """The option ``onlyIf``: an object, or the headers of a request, whose times are whole seconds."""
    given = option(options, "onlyIf")
    if given is None:
        return None
    if isinstance(given, Headers):
        return _of_headers(given)
    found: dict[str, Any] = {"seconds": bool(option(given, "secondsGranularity", False))}
    for name in ("etagMatches", "etagDoesNotMatch"):
        if (etag := option(given, name)) is None:
            continue
        if len(etag) > 1 and etag[0] == etag[-1] == '"':
            raise type_error(f"Conditional ETag should not be wrapped in quotes ({etag}).")
        found[name] = [{"type": "wildcard"} if etag == "*" else {"type": "strong", "value": etag}]
    for name in ("uploadedBefore", "uploadedAfter"):
        if (moment := option(given, name)) is not None:
            found[name] = milliseconds(moment)
    return found


def included(options: Any) -> list[str]:
    """The option ``include`` of a list."""
    given = [str(each) for each in option(options, "include", ())]
    for each in given:
        if each not in _INCLUDED:
            raise JsException(f"Unsupported include value {each}", "RangeError")
    return given


def _of_headers(headers: Headers) -> dict[str, Any]:
    found: dict[str, Any] = {"seconds": True}
    for header, name in (("if-match", "etagMatches"), ("if-none-match", "etagDoesNotMatch")):
        if headers.has(header):
            found[name] = _etags(header, str(headers.get(header)))
    for header, name in (("if-modified-since", "uploadedAfter"), ("if-unmodified-since", "uploadedBefore")):
        if headers.has(header):
            found[name] = milliseconds(str(headers.get(header)))
    return found


def _etags(header: str, text: str) -> list[dict[str, str]]:
    """The etags of a conditional header; a bare or half quoted one is refused."""
    found: list[dict[str, str]] = []
    place, comma = 0, True
    while place < len(text):
        if text[place] in ", \t":
            comma = comma or text[place] == ","
            place += 1
            continue
        etag = _ETAG.match(text, place)
        if etag is None:
            unclosed = text[place:].removeprefix("W/").startswith('"')
            raise JsException("Unclosed double quote for Etag" if unclosed else f"Invalid ETag in {header} header")
        if not comma:
            raise JsException("Comma was expected to separate etags.")
        if etag["wildcard"]:
            return [{"type": "wildcard"}]
        found.append({"type": "weak" if etag["weak"] else "strong", "value": etag["value"]})
        place, comma = etag.end(), False
    if not found:
        raise JsException(f"Invalid ETag in {header} header")
    return found


def as_object(http: Any) -> JsObject:
    """``httpMetadata`` as a Worker finds it: with a Date in it."""
    entries = dict(http.as_object_map() if isinstance(http, JsObject) else http or {})
    if "cacheExpiry" in entries:
        entries["cacheExpiry"] = Date(entries["cacheExpiry"])
    return JsObject(entries)
