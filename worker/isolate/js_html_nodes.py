"""What HTMLRewriter's handlers are given: elements, end tags, text, comments, the doctype and the document's end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .html_tokens import Token
from .js_base import JsArray, JsProxy, null, option, type_error

VOID = {"area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img", "input", "keygen", "link"}
VOID |= {"meta", "param", "source", "track", "wbr"}
"""Elements without content and end tag."""


class Changed(JsProxy):
    """A token, with what a handler puts before, after and in place of it."""

    def __init__(self, token: Token) -> None:
        self.token = token
        self.removed = False
        self.put_before, self.put_after, self.replacement = "", "", ""

    def before(self, content: Any, options: Any = None, **more: Any) -> Any:
        self.put_before += _text(content, options or more)
        return self

    def after(self, content: Any, options: Any = None, **more: Any) -> Any:
        self.put_after = _text(content, options or more) + self.put_after
        return self

    def replace(self, content: Any, options: Any = None, **more: Any) -> Any:
        self.replacement = _text(content, options or more)
        self.removed = True
        return self

    def remove(self) -> Any:
        self.removed = True
        return self

    def written(self) -> str:
        """What stands in the page in its place."""
        return self.put_before + (self.replacement if self.removed else self.own()) + self.put_after

    def own(self) -> str:
        """The token itself."""
        return self.token.raw


class Text(Changed):
    """A piece of text, as the page has it: entities stay what they are."""

    def __init__(self, token: Token, *, last: bool) -> None:
        super().__init__(token)
        self.text, self.lastInTextNode = token.raw, last


class Comment(Changed):
    """A comment, whose ``text`` may be set."""

    def __init__(self, token: Token) -> None:
        super().__init__(token)
        self.text = token.text

    def own(self) -> str:
        return self.token.raw if self.text == self.token.text else f"<!--{self.text}-->"


class Doctype(JsProxy):
    """The doctype, to be read."""

    def __init__(self, token: Token) -> None:
        public, system = (value or null() for _, value in token.attributes)
        self.name, self.publicId, self.systemId = token.name or null(), public, system


class DocumentEnd(JsProxy):
    """The end of the document."""

    def __init__(self) -> None:
        self.put = ""

    def append(self, content: Any, options: Any = None, **more: Any) -> DocumentEnd:
        self.put += _text(content, options or more)
        return self


class EndTag(Changed):
    """An element's end tag."""

    def __init__(self, token: Token) -> None:
        super().__init__(token)
        self.name = token.name

    def own(self) -> str:
        return self.token.raw if self.name == self.token.name else f"</{self.name}>"


class Element(Changed):
    """A start tag, and what becomes of its element's content and end tag."""

    namespaceURI = "http://www.w3.org/1999/xhtml"

    def __init__(self, token: Token) -> None:
        super().__init__(token)
        self.tagName = token.name
        self.has_content = token.name not in VOID
        self.drops_content = self.drops_end = False
        self.at_end, self.after_end = "", ""
        self.end_handlers: list[Callable[..., Any]] = []
        self._attributes: dict[str, str] = {}
        self._spelled: dict[str, str] = {}
        for (name, value), spelled in zip(token.attributes, token.spelled, strict=True):
            self._attributes.setdefault(name, value)
            self._spelled.setdefault(name, spelled)
        self._changed = False

    @property
    def changes_end(self) -> bool:
        """Whether something is done at its end tag."""
        return bool(self.at_end or self.after_end or self.drops_end) or self.tagName != self.token.name

    @property
    def attributes(self) -> JsArray:
        return JsArray([JsArray([name, value]) for name, value in self._attributes.items()])

    def getAttribute(self, name: str) -> Any:
        return self._attributes.get(name.lower(), null())

    def hasAttribute(self, name: str) -> bool:
        return name.lower() in self._attributes

    def setAttribute(self, name: str, value: Any) -> Element:
        if not name or any(mark in name for mark in " \t\n\f\r/>="):
            raise type_error(f"{name!r} can't be an attribute's name")
        self._attributes[name.lower()] = str(value)
        self._spelled[name.lower()] = f'{name.lower()}="{str(value).replace(chr(34), "&quot;")}"'
        self._changed = True
        return self

    def removeAttribute(self, name: str) -> Element:
        self._changed |= self._attributes.pop(name.lower(), None) is not None
        return self

    def after(self, content: Any, options: Any = None, **more: Any) -> Element:
        if not self.has_content:
            return super().after(content, options, **more)  # type: ignore[no-any-return]
        self.after_end = _text(content, options or more) + self.after_end
        return self

    def prepend(self, content: Any, options: Any = None, **more: Any) -> Element:
        if self.has_content:
            self.put_after = _text(content, options or more) + self.put_after
        return self

    def append(self, content: Any, options: Any = None, **more: Any) -> Element:
        if self.has_content:
            self.at_end += _text(content, options or more)
        return self

    def setInnerContent(self, content: Any, options: Any = None, **more: Any) -> Element:
        if self.has_content:
            self.drops_content = True
            self.put_after, self.at_end = _text(content, options or more), ""
        return self

    def replace(self, content: Any, options: Any = None, **more: Any) -> Element:
        super().replace(content, options, **more)
        return self.remove()

    def remove(self) -> Element:
        self.removed = True
        self.drops_content = self.drops_end = self.has_content
        if self.has_content:
            self.put_after, self.at_end = "", ""
        return self

    def removeAndKeepContent(self) -> Element:
        self.removed = True
        self.drops_end = self.has_content
        return self

    def onEndTag(self, handler: Callable[..., Any]) -> None:
        if not self.has_content:
            raise type_error("Parser error: No end tag.")
        self.end_handlers.append(handler)

    def own(self) -> str:
        if not self._changed and self.tagName == self.token.name:
            return self.token.raw
        named = "".join(f" {self._spelled[name]}" for name in self._attributes)
        return f"<{self.tagName}{named}{' /' if self.token.closes_itself else ''}>"


def _text(content: Any, options: Any) -> str:
    """Content as it stands in the page: markup where ``html`` says so, else text."""
    if content is None or isinstance(content, JsProxy):
        raise type_error("HTMLRewriter takes content as a string here")
    text = str(content)
    if option(options, "html", default=False):
        return text
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
