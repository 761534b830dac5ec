"""``toMarkdown``: documents to markdown. HTML and CSV go through markdownify, text and markdown pass as they are.

Shapes: workerd's ``src/cloudflare/internal/to-markdown-api.ts`` and the documentation of Markdown Conversion.
"""

from __future__ import annotations

import base64
import binascii
import csv
import html
import io
import uuid
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any
from urllib.parse import urljoin

from bs4 import BeautifulSoup
from markdownify import MarkdownConverter

SUPPORTED = {
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "application/xhtml+xml",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".md": "text/markdown",
}
_UNSEEN = ("head", "script", "style", "noscript", "template", "svg")
_CHARACTERS_PER_TOKEN = 4  # the usual estimate; the platform calls its number an estimate too


def supported() -> list[dict[str, str]]:
    """What can be converted, as ``toMarkdown().supported()`` lists it."""
    return [{"extension": extension, "mimeType": kind} for extension, kind in SUPPORTED.items()]


def convert(file: Any, options: Any = None) -> dict[str, Any]:
    """One file (``{name, mimeType, data: base64}``) as an entry of the result, of format ``markdown`` or ``error``.

    ``options`` are the caller's ``conversionOptions``; of ``html`` those named ``hostname`` and ``cssSelector`` count.
    """
    given: Mapping[str, Any] = file if isinstance(file, Mapping) else {}
    name, stated = str(given.get("name", "")), str(given.get("mimeType", ""))
    entry = {"id": str(uuid.uuid4()), "name": name, "mimeType": stated}
    try:
        kind, charset = _kind(name, stated)
        data = base64.b64decode(str(given.get("data", "")), validate=True)
        text = _CONVERTERS[kind](data, charset, options if isinstance(options, Mapping) else {}).strip()
    except (KeyError, binascii.Error, csv.Error, LookupError, RecursionError, ValueError) as fault:
        return {**entry, "format": "error", "error": _reason(fault, stated)}
    return {**entry, "format": "markdown", "tokens": -(-len(text) // _CHARACTERS_PER_TOKEN), "data": text}


def _kind(name: str, stated: str) -> tuple[str, str]:
    """The MIME type and the charset; a type that says nothing yields to the name's extension."""
    header = Message()
    header["content-type"] = stated or "application/octet-stream"
    kind = header.get_content_type()
    extension = "." + name.rpartition(".")[2].lower()
    if kind == "application/octet-stream" or not stated:
        kind = SUPPORTED.get(extension, kind)
    return kind, header.get_content_charset("utf-8-sig")


def _reason(fault: Exception, kind: str) -> str:
    if isinstance(fault, binascii.Error):
        return f"the data is not base64: {fault}"
    if isinstance(fault, RecursionError):
        return "the document is nested too deep"
    if isinstance(fault, KeyError):
        known = ", ".join(SUPPORTED)
        return f"Unsupported file type {kind or 'unknown'}: roost converts {known}"
    return str(fault)


def _as_it_is(data: bytes, charset: str, _options: Mapping[str, Any]) -> str:
    return data.decode(charset, "replace")


def _from_csv(data: bytes, charset: str, _options: Mapping[str, Any]) -> str:
    """A table; its first row is the head."""
    rows = list(csv.reader(io.StringIO(data.decode(charset, "replace"), newline="")))
    cells = [
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        for row, tag in zip(rows, ["th", *["td"] * len(rows)], strict=False)
    ]
    table = "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
    return _markdown(BeautifulSoup(table, "html.parser"))


def _from_html(data: bytes, charset: str, options: Mapping[str, Any]) -> str:
    wanted = options.get("html")
    wanted = wanted if isinstance(wanted, Mapping) else {}
    page = BeautifulSoup(data, "html.parser", from_encoding=None if charset == "utf-8-sig" else charset)
    for unseen in page.find_all(_UNSEEN):
        unseen.decompose()
    if hostname := wanted.get("hostname"):
        _resolve(page, str(hostname))
    if selector := wanted.get("cssSelector"):
        return "\n\n".join(_markdown(part).strip() for part in page.select(str(selector)))
    return _markdown(page)


def _resolve(page: BeautifulSoup, hostname: str) -> None:
    """Make relative links absolute."""
    base = hostname if "://" in hostname else f"https://{hostname}"
    for tag, attribute in (("a", "href"), ("img", "src")):
        for element in page.find_all(tag):
            if target := element.get(attribute):
                element[attribute] = urljoin(base, str(target))


def _markdown(page: Any) -> str:
    text: str = MarkdownConverter(heading_style="ATX", bullets="-").convert_soup(page)
    return text


_CONVERTERS: dict[str, Callable[[bytes, str, Mapping[str, Any]], str]] = {
    "text/html": _from_html,
    "application/xhtml+xml": _from_html,
    "text/csv": _from_csv,
    "text/plain": _as_it_is,
    "text/markdown": _as_it_is,
}
