"""HTMLRewriter: handlers of elements, text and comments over a response's page, while it goes by."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncGenerator, Iterable
from typing import Any, TypeAlias

from .html_selectors import Node, Selector
from .html_tokens import COMMENT, DOCTYPE, END, OTHER, START, TEXT, Token, Tokenizer
from .js_base import JsProxy, null, option
from .js_bodies import Body
from .js_html_nodes import VOID, Changed, Comment, Doctype, DocumentEnd, Element, EndTag, Text
from .js_messages import Response
from .js_promises import settled
from .js_streams import stream_of

Handlers: TypeAlias = tuple[Selector | None, Any]
"""Of the elements that a selector means; with ``None``, of the document."""
_CHARSET = re.compile(r"charset=[\"']?([\w-]+)", re.IGNORECASE)


class HTMLRewriter(JsProxy):
    """``HTMLRewriter.new().on(selector, handlers).onDocument(handlers).transform(response)``."""

    def __init__(self) -> None:
        self._handlers: list[Handlers] = []

    def on(self, selector: str, handlers: Any, **more: Any) -> HTMLRewriter:
        self._handlers.append((Selector(str(selector)), handlers))
        return self

    def onDocument(self, handlers: Any) -> HTMLRewriter:
        self._handlers.append((None, handlers))
        return self

    def transform(self, response: Any) -> Response:
        given: Response = getattr(response, "js_object", response)
        made = Response(None, given)
        made.url = given.url
        if given.body is null() or given.body is None:
            return made
        made.headers.delete("content-length")
        body = _rewritten(Page(self._handlers), given, made.headers.get("content-type"))
        Body._take(made, stream_of(body))
        return made


async def _rewritten(page: Page, response: Response, kind: Any) -> AsyncGenerator[bytes]:
    charset = _charset(str(kind))
    decoder = codecs.getincrementaldecoder(charset)("surrogateescape")
    pieces = response.sent()
    if isinstance(pieces, bytes) or pieces is None:
        pieces = _once(pieces or b"")
    try:
        async for piece in pieces:
            if text := await page.passed(page.tokens.feed(decoder.decode(piece))):
                yield text.encode(charset, "surrogateescape")
    finally:
        await pieces.aclose()
    rest = await page.passed(page.tokens.feed(decoder.decode(b"", final=True)))
    if rest := rest + await page.ended():
        yield rest.encode(charset, "surrogateescape")


class Page:
    """One page on its way: which elements are open, and what their handlers have left to do at their ends."""

    def __init__(self, handlers: list[Handlers]) -> None:
        self.tokens = Tokenizer()
        self._handlers = sorted(handlers, key=lambda entry: entry[0] is None)  # the document's come last
        self._root = Node("", {})
        self._open: list[tuple[Node, Element | None, list[Handlers]]] = []
        self._dropping = 0
        self._in_text = False

    async def passed(self, tokens: Iterable[Token]) -> str:
        """What ``tokens`` become."""
        written = []
        for token in tokens:
            if token.kind != TEXT:
                written.append(await self._text_ends())
            if token.kind == START:
                written.append(await self._start(token))
            elif token.kind == END:
                written.append(await self._end(token))
            else:
                written.append(await self._other(token))
        return "".join(written)

    async def ended(self) -> str:
        """What stands after the last token."""
        written = await self.passed(self.tokens.end()) + await self._text_ends()
        end = DocumentEnd()
        for selector, handlers in self._handlers:
            if selector is None:
                await _call(handlers, "end", end)
        return written + end.put

    async def _start(self, token: Token) -> str:
        parent = self._open[-1][0] if self._open else self._root
        parent.children += 1
        parent.types[token.name] += 1
        attributes: dict[str, str] = {}
        for name, value in token.attributes:
            attributes.setdefault(name, value)
        node = Node(token.name, attributes, parent.children, parent.types[token.name])
        path = [*(entry[0] for entry in self._open), node]
        matched = [entry for entry in self._handlers if entry[0] and entry[0].matches(path)]
        element = Element(token) if matched else None
        for _, handlers in matched:
            await _call(handlers, "element", element)
        written = self._shown(element.written() if element else token.raw)
        if token.name not in VOID:
            self._open.append((node, element, matched))
            self._dropping += bool(element and element.drops_content)
        return written

    async def _end(self, token: Token) -> str:
        if not any(node.name == token.name for node, _, _ in self._open):
            return self._shown(token.raw)
        tag, popped = EndTag(token), []
        while self._open:
            node, element, _ = self._open.pop()
            if element is not None:
                self._dropping -= element.drops_content
                popped.append(element)
            if node.name == token.name:
                break
        # An end tag ends what is open inside, too: of what those elements do with their ends, the outermost's is done.
        if changing := [element for element in popped if element.changes_end]:
            tag.put_before, tag.put_after = changing[-1].at_end, changing[-1].after_end
            tag.removed = changing[-1].drops_end
            if changing[-1].tagName != changing[-1].token.name:
                tag.name = changing[-1].tagName
        for handler in (handler for element in popped for handler in element.end_handlers):
            await settled(handler(tag))
        return self._shown(tag.written())

    async def _other(self, token: Token) -> str:
        if token.kind == OTHER:
            return self._shown(token.raw)
        if token.kind == DOCTYPE:
            for selector, handlers in self._handlers:
                if selector is None:
                    await _call(handlers, "doctype", Doctype(token))
            return self._shown(token.raw)
        self._in_text = token.kind == TEXT
        given = Comment(token) if token.kind == COMMENT else Text(token, last=False)
        return await self._told("comments" if token.kind == COMMENT else "text", given)

    async def _text_ends(self) -> str:
        """Tell the handlers of a text that it has ended, with an empty piece."""
        if not self._in_text:
            return ""
        self._in_text = False
        return await self._told("text", Text(Token(TEXT, ""), last=True))

    async def _told(self, name: str, given: Changed) -> str:
        inside = [id(entry) for _, _, matched in self._open for entry in matched]
        for entry in self._handlers:
            if entry[0] is None or id(entry) in inside:
                await _call(entry[1], name, given)
        return self._shown(given.written())

    def _shown(self, text: str) -> str:
        return "" if self._dropping else text


async def _call(handlers: Any, name: str, given: Any) -> None:
    if (handler := option(handlers, name)) is not None:
        await settled(handler(given))


def _charset(kind: str) -> str:
    found = _CHARSET.search(kind)
    try:
        return codecs.lookup(found[1]).name if found else "utf-8"
    except LookupError:
        return "utf-8"


async def _once(data: bytes) -> AsyncGenerator[bytes]:
    yield data
