"""Bounds on what a chat template may compute. It comes with its weights and is code: the sandbox keeps it from reaching
out, and this from running for ever or filling the memory.

Every pass of a loop and every call of a macro counts, and the time; texts and lists that grow are measured where Jinja
lets them grow: operators, concatenation, methods and filters that pad.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.filters import FILTERS
from jinja2.runtime import str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_SECONDS = 3.0
"""For one rendering; a long chat takes milliseconds."""
MAX_PASSES = 1_000_000
MAX_LENGTH = 32 << 20
"""Characters of a text, or items of a list, that a template makes. Larger than any body that a door takes."""
_TICK, _JOIN = "roost_tick", "roost_join"
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})


class TemplateTooLarge(TemplateError):
    """A template that would run for too long or make too much."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with operators that measure what they make."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("center", "indent", "wordwrap", "replace", "format"):
            self.filters[name] = _measured(FILTERS[name])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """``left operator right``, unless that is too large to be made."""
        match operator:
            case "+" if _size(left) + _size(right) > MAX_LENGTH:
                raise _too_large()
            case "*" if max(_size(left) * _count(right), _size(right) * _count(left)) > MAX_LENGTH:
                raise _too_large()
            case "**" if _bits(left) * abs(_count(right)) > MAX_LENGTH:
                raise _too_large()
            case "%" if isinstance(left, str):
                _check_widths(left)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  (as Jinja has it)
        """A call, unless it is of a method that pads or repeats a text beyond the bound."""
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str):
            if name in _PADDING and any(_count(arg) > MAX_LENGTH for arg in args):
                raise _too_large()
            if name == "replace" and len(args) > 1 and isinstance(args[1], str):
                _check_replaced(owner, *args[:2])
            if name == "join" and args:
                args = (_checked_parts(owner, args[0]), *args[1:])
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """The sandbox's own ``format`` of a text, which must name no great width."""
        if (wrapped := super().wrap_str_format(value)) is not None:
            _check_widths(value.__self__)
        return wrapped

    def bounded(self, source: str) -> nodes.Template:
        """The tree of ``source``, in which loops, macros and concatenations are counted."""
        tree = _Counted().visit(self.parse(source))
        assert isinstance(tree, nodes.Template)
        return tree


class Budget:
    """What one rendering may still do; ``given`` is what its template finds."""

    def __init__(self) -> None:
        self._left, self._until = MAX_PASSES, time.monotonic() + MAX_SECONDS
        self.given = {_TICK: self._tick, _JOIN: self._join}

    def spend(self, pieces: Iterable[str]) -> str:
        """``pieces`` as one text."""
        found, length = [], 0
        for piece in pieces:
            self._tick()
            length += len(piece)
            if length > MAX_LENGTH:
                raise _too_large()
            found.append(piece)
        return "".join(found)

    def _tick(self) -> str:
        self._left -= 1
        if self._left < 0 or time.monotonic() > self._until:
            raise TemplateTooLarge("it runs for too long")
        return ""

    def _join(self, *parts: Any) -> str:
        self._tick()
        if sum(map(_size, parts)) > MAX_LENGTH:
            raise _too_large()
        return str_join(parts)


class _Counted(NodeTransformer):
    """Puts a tick into every loop's and macro's body, and our own function in the place of every ``~``."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.body.insert(0, _tick(node))
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.body.insert(0, _tick(node))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        function = nodes.Name(_JOIN, "load", lineno=node.lineno)
        return nodes.Call(function, node.nodes, [], None, None, lineno=node.lineno)


def _tick(node: nodes.Node) -> nodes.Node:
    call = nodes.Call(nodes.Name(_TICK, "load"), [], [], None, None)
    return nodes.ExprStmt(call).set_lineno(node.lineno)


def _measured(filter_: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        if any(_count(arg) > MAX_LENGTH for arg in given):
            raise _too_large()
        texts = [arg for arg in given if isinstance(arg, str)]
        if filter_ is FILTERS["replace"] and len(texts) > 2:
            _check_replaced(*texts[:3])
        if filter_ is FILTERS["format"] and texts:
            _check_widths(texts[0])
        return filter_(*args, **kwargs)

    return functools.wraps(filter_)(measured)  # what Jinja passes to a filter is an attribute of it


def _check_replaced(text: str, old: str, new: str) -> None:
    if (text.count(old) if old else len(text) + 1) * len(new) > MAX_LENGTH:
        raise _too_large()


def _checked_parts(between: str, parts: Any) -> Iterator[Any]:
    length = 0
    for part in parts:
        length += _size(part) + len(between)
        if length > MAX_LENGTH:
            raise _too_large()
        yield part


def _check_widths(pattern: str) -> None:
    """Refuse a format whose field is wider than any text should be, or as wide as an argument says."""
    digits = ""
    for character in f"{pattern} ":
        digits = digits + character if character.isdigit() else ""
        if len(digits) > len(str(MAX_LENGTH)) - 1:
            raise _too_large()
    if "%*" in pattern or "{:{" in pattern:
        raise TemplateTooLarge("it formats with a width that isn't written down")


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _too_large() -> TemplateTooLarge:
    return TemplateTooLarge("it makes too large a text")
