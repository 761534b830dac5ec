"""HTML, cut into tokens as it arrives; every token keeps the text that it was, so that what nobody changes stays.

A parser of documents won't do: what HTMLRewriter passes on is the page as it was written, mistakes included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

START, END, TEXT, COMMENT, DOCTYPE, OTHER = range(6)
_RAW = frozenset(("script", "style", "xmp", "iframe", "noembed", "noframes", "title", "textarea"))
"""Elements with text alone in them (HTML standard, 13.2.5)."""
_NAME = re.compile(r"[a-zA-Z][^\s/>]*")
_ATTRIBUTE = re.compile(
    r"""(?P<name>[^\s/>][^\s/>=]*)(?:\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s>"'][^\s>]*)?))?"""
)
_BETWEEN = re.compile(r"[\s/]*")
_DOCTYPE = re.compile(
    r"""<!doctype\s*(?P<name>[^\s>]*)\s*(?:(?:public\s*(["'])(?P<public>.*?)\2|system)\s*(?:(["'])(?P<system>.*?)\4)?)?""",
    re.IGNORECASE | re.DOTALL,
)
_STEP = 1 << 13
"""Characters that are taken at once: each token moves those behind it."""
_LONGEST = 1 << 18
"""Characters of one tag or comment that are kept to be looked at; what is longer passes as it is."""


@dataclass(slots=True)
class Token:
    """``kind`` and ``raw`` text. ``name``: a tag's, in lower case.

    ``attributes``: names and values in order; ``spelled``: each as it was written.
    ``text``: a comment's, or a doctype's public and system identifiers in ``attributes``.
    """

    kind: int
    raw: str
    name: str = ""
    attributes: list[tuple[str, str]] = field(default_factory=list)
    spelled: list[str] = field(default_factory=list)
    closes_itself: bool = False
    text: str = ""


class Tokenizer:
    """Takes text in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = ""
        self._raw_until = ""
        self._ended = False

    def feed(self, text: str) -> Iterator[Token]:
        """The tokens that are whole once ``text`` has come."""
        for start in range(0, len(text) or 1, _STEP):
            self._buffer += text[start : start + _STEP]
            while self._buffer and (token := self._next()) is not None:
                self._buffer = self._buffer[len(token.raw) :]
                yield token

    def end(self) -> Iterator[Token]:
        """The rest: text is text, half a tag passes as it is."""
        self._ended = True
        yield from self.feed("")
        if self._buffer:
            yield Token(OTHER, self._buffer)
            self._buffer = ""

    def _next(self) -> Token | None:
        if self._raw_until:
            return self._raw_text()
        place = self._buffer.find("<")
        if place != 0:
            return Token(TEXT, self._buffer if place < 0 else self._buffer[:place])
        token = self._markup()
        if token is None and len(self._buffer) > _LONGEST:
            return Token(OTHER, self._buffer)
        return token

    def _markup(self) -> Token | None:
        buffer = self._buffer
        second = buffer[1:2]
        if second.isascii() and second.isalpha():
            return self._start_tag()
        if second in ("!", "?"):
            return self._declaration()
        if second == "/":
            return self._end_tag()
        if not second and not self._ended:
            return None
        return Token(TEXT, "<")

    def _start_tag(self) -> Token | None:
        buffer = self._buffer
        found = _NAME.match(buffer, 1)
        assert found is not None
        token = Token(START, "", found[0].lower())
        place = found.end()
        while True:
            between = _BETWEEN.match(buffer, place)
            assert between is not None
            place = between.end()
            if place == len(buffer):
                return None
            if buffer[place] == ">":
                break
            attribute = _ATTRIBUTE.match(buffer, place)
            assert attribute is not None
            place = attribute.end()
            if place == len(buffer) or (buffer[place] in "\"'" and attribute[0].rstrip().endswith("=")):
                return None  # its value may go on
            value = attribute["double"] or attribute["single"] or attribute["bare"] or ""
            token.attributes.append((attribute["name"].lower(), value))
            token.spelled.append(attribute[0].rstrip())
        token.raw = buffer[: place + 1]
        token.closes_itself = between[0].endswith("/")
        if token.name in _RAW:
            self._raw_until = token.name
        return token

    def _end_tag(self) -> Token | None:
        stop = self._buffer.find(">")
        if stop < 0:
            return None
        found = _NAME.match(self._buffer, 2)
        if found is None:
            return Token(COMMENT if stop > 2 else OTHER, self._buffer[: stop + 1], text=self._buffer[2:stop])
        return Token(END, self._buffer[: stop + 1], found[0].lower())

    def _declaration(self) -> Token | None:
        buffer = self._buffer
        if buffer.startswith("<!--"):
            if buffer.startswith(("<!-->", "<!--->")):
                return Token(COMMENT, buffer[: buffer.index(">") + 1])
            stop = re.compile(r"--!?>").search(buffer, 4)
            return None if stop is None else Token(COMMENT, buffer[: stop.end()], text=buffer[4 : stop.start()])
        stop_at = buffer.find(">")
        if stop_at < 0 or (len(buffer) < 4 and "<!--".startswith(buffer)):
            return None
        raw = buffer[: stop_at + 1]
        if (found := _DOCTYPE.match(raw)) is not None:
            identifiers = [("public", found["public"] or ""), ("system", found["system"] or "")]
            return Token(DOCTYPE, raw, found["name"].lower(), identifiers)
        return Token(COMMENT, raw, text=buffer[1 if buffer[1] == "?" else 2 : stop_at])

    def _raw_text(self) -> Token | None:
        """The text of a script and its like, as far as it can't be the end tag."""
        stop = re.compile(rf"</{self._raw_until}(?=[\s/>])", re.IGNORECASE).search(self._buffer)
        if stop is not None:
            self._raw_until = ""
            return Token(TEXT, self._buffer[: stop.start()]) if stop.start() else self._end_tag_of_raw(stop[0])
        held = self._buffer.rfind("</")
        if self._ended or held < 0 or len(self._buffer) - held > len(self._raw_until) + 2:
            held = len(self._buffer) - (0 if self._ended or not self._buffer.endswith("<") else 1)
        return Token(TEXT, self._buffer[:held]) if held else None

    def _end_tag_of_raw(self, opening: str) -> Token | None:
        token = self._end_tag()
        if token is None:
            self._raw_until = opening[2:].lower()
        return token
