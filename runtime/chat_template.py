"""Renders a model's chat template in a sandbox, to the byte as transformers does.

Source: transformers' ``utils/chat_template_utils.py`` (4.57). A template comes with its weights and is code: the
sandbox lets it reach nothing but what is passed in.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from runtime.errors import ArtifactError, BadParameter
from runtime.template_bounds import BoundedEnvironment, Budget


class ChatTemplate:
    """One compiled template and the special tokens it may name (``bos_token``, ``eos_token``).

    ``takes_tools``: whether it has a place for tools.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        environment = _environment()
        self.source = source
        try:
            self._template = environment.from_string(environment.bounded(source))
            self.takes_tools = "tools" in meta.find_undeclared_variables(environment.parse(source))
        except Exception as error:  # a template is code: it may raise anything
            raise ArtifactError(f"the chat template doesn't compile: {error}") from error
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The prompt for ``messages``, ending where the assistant begins to speak; ``tools``: JSON schemas to offer.

        Raises :class:`BadParameter` with the template's own words where it refuses the messages.
        """
        try:
            budget = Budget()
            given = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": True}
            return budget.spend(self._template.generate(**given, **self._special_tokens, **budget.given))
        except Exception as error:  # a template is code: it may raise anything
            raise BadParameter("/messages", f"the chat template refused the messages: {error}") from error


class _Generation(Extension):
    """``{% generation %}`` marks the assistant's text for training; when rendering it is transparent."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 reads it from the class)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body of the block, as it stands."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> BoundedEnvironment:
    extensions = [_Generation, "jinja2.ext.loopcontrols"]
    environment = BoundedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().astimezone().strftime(pattern)
