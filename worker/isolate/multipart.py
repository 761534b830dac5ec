"""The parts of a ``multipart/form-data`` body (RFC 7578). Python's email parser would read files as messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from .js_base import type_error

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^\s;]+))', re.IGNORECASE)
_PARAMETER = re.compile(r';\s*([\w*-]+)=(?:"((?:\\"|[^"])*)"|([^\s;]*))')


def parts_of(body: bytes, content_type: str) -> Iterator[tuple[str, str | None, str, bytes]]:
    """Name, file name, type and content of each part; a TypeError for what is no such body."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise type_error("No boundary in the Content-Type header, which multipart/form-data requires.")
    line = f"\r\n--{found[1] or found[2]}".encode()
    _, *pieces = (b"\r\n" + body).split(line)
    if not pieces or not pieces[-1].startswith(b"--"):
        raise type_error("The multipart/form-data body has no end: its last boundary is missing.")
    for piece in pieces[:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        headers = _headers(head.decode(errors="replace"))
        parameters = _parameters(headers.get("content-disposition", ""))
        if "name" not in parameters:
            raise type_error("A part of the multipart/form-data body has no name.")
        kind = headers.get("content-type", "text/plain")
        yield parameters["name"], parameters.get("filename"), kind, content


def _headers(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.split("\r\n"))
    return {name.strip().lower(): value.strip() for name, colon, value in lines if colon}


def _parameters(disposition: str) -> dict[str, str]:
    pairs = _PARAMETER.findall(disposition)
    found = {name.lower(): (quoted or bare).replace('\\"', '"') for name, quoted, bare in pairs}
    if "filename*" in found:  # RFC 5987: charset'language'percent-encoded
        charset, _, rest = found["filename*"].partition("'")
        found["filename"] = unquote(rest.partition("'")[2], charset or "utf-8", "replace")
    return found
