"""Text to tokens and back: prompts and chats in, text that never splits a character out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from runtime.chat_template import ChatTemplate
from runtime.errors import BadParameter

_REPLACEMENT = "\ufffd"
_PRIVATE_USE = range(0xE000, 0xF900)  # characters that mean nothing of their own, to mark places in a text with


class ChatTokenizer:
    """A tokenizer with its model's chat template."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None, *, bos: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._bos = bos

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The tokens of ``messages`` in the model's chat format. A special token's text in a message stays text."""
        if self._template is None:
            return self.encode_raw("\n".join(str(message["content"]) for message in messages))
        written = "".join(text for message in messages for text in message.values() if isinstance(text, str))
        if self._special_text.search(written) is None:
            return self._encode(self._template.render(messages))
        cut = next(mark for mark in map(chr, _PRIVATE_USE) if mark not in written)
        rendered = self._template.render([self._cut_specials(message, cut) for message in messages])
        return self._encode_with_cuts(rendered, cut)

    def encode_raw(self, text: str) -> list[int]:
        """The tokens of ``text`` as it stands, special tokens included; the model's start token first."""
        start = self._bos if self._bos and not text.startswith(self._bos) else ""
        return self._encode(start + text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``; special tokens are left out."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def detokenizer(self) -> Detokenizer:
        """A new stream of text."""
        return Detokenizer(self)

    def _encode(self, text: str) -> list[int]:
        return _encode_with(self._tokenizer, text)

    @cached_property
    def _special_text(self) -> re.Pattern[str]:
        specials = [token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special]
        longest_first = sorted(specials, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) if specials else r"(?!)")

    @cached_property
    def _plain(self) -> Tokenizer:
        """The same tokenizer, blind to special tokens."""
        plain = Tokenizer.from_str(self._tokenizer.to_str())
        plain.encode_special_tokens = True
        return plain

    def _cut_specials(self, message: Mapping[str, Any], cut: str) -> dict[str, Any]:
        """``message`` with ``cut`` on either side of every special token's text in its strings."""
        return {
            name: self._special_text.sub(lambda found: f"{cut}{found[0]}{cut}", value)
            if isinstance(value, str)
            else value
            for name, value in message.items()
        }

    def _encode_with_cuts(self, rendered: str, cut: str) -> list[int]:
        tokens: list[int] = []
        for index, piece in enumerate(rendered.split(cut)):
            written_by_user = index % 2 == 1
            encoder = self._plain if written_by_user else self._tokenizer
            tokens += _encode_with(encoder, piece)
        return tokens


def _encode_with(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        return tokenizer.encode(text, add_special_tokens=False).ids
    except TypeError as error:  # tokenizers' word for half a surrogate pair, which JSON can write
        raise BadParameter("/", "the text holds half a character (a lone surrogate)") from error


class Detokenizer:
    """Turns tokens into text as they come. What might be the start of a character is held until it is whole."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []  # tokens whose text is out, kept because decoding looks at neighbours
        self._held: list[int] = []

    def feed(self, token: int) -> str:
        """The text that ``token`` completes; empty while a character is incomplete."""
        self._held.append(token)
        text = self._new_text()
        return "" if text.endswith(_REPLACEMENT) else self._release(text)

    def finish(self) -> str:
        """The rest, once no token follows: bytes that never became a character read as U+FFFD."""
        return self._release(self._new_text()) if self._held else ""

    def _new_text(self) -> str:
        before = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._held)[len(before) :]

    def _release(self, text: str) -> str:
        self._context, self._held = self._held, []
        return text
