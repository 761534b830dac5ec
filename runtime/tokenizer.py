"""Text to tokens and back: prompts and chats in, text that never splits a character out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from tokenizers import AddedToken, Tokenizer

from runtime.chat_template import ChatTemplate
from runtime.errors import BadParameter

_REPLACEMENT = "\ufffd"
_PRIVATE_USE = range(0xE000, 0xF900)  # characters that mean nothing of their own, to mark places in a text with

END_OF_TURN = {"<|im_end|>", "<|endoftext|>", "<|end_of_turn|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "</s>"}
"""Special tokens that end a turn, whether or not a model's files say so."""


class ChatTokenizer:
    """A tokenizer with its model's chat template. ``known``: how many tokens the weights know, ``None`` for all."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        *,
        bos: str | None = None,
        known: int | None = None,
    ) -> None:
        self._known = known
        self._tokenizer = tokenizer
        self._template = template
        self._bos = bos
        self._blinded: dict[str, tuple[Tokenizer, dict[int, int]]] = {}

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """The tokens of ``messages`` in the model's chat format. A special token's text in a message stays text."""
        if self._template is None:
            return self._encode_plain("\n".join(str(message["content"]) for message in messages))
        written = "".join(_strings([messages, tools]))
        if self._special_text.search(written) is None:
            return self._encode(self._template.render(messages, tools))
        opening, closing, alias = islice((mark for mark in map(chr, _PRIVATE_USE) if mark not in written), 3)

        def guard(text: str) -> str:
            return self._special_text.sub(lambda found: f"{opening}{found[0]}{closing}", text)

        rendered = self._template.render(_mapped(messages, guard), _mapped(tools, guard))
        guarded = re.compile(f"{opening}({self._special_text.pattern}){closing}")
        return self._encode_guarded(guarded.split(rendered), re.compile(f"[{opening}{closing}]"), alias)

    def encode_raw(self, text: str) -> list[int]:
        """The tokens of ``text`` as it stands, special tokens included; the model's start token first."""
        start = self._bos if self._bos and not text.startswith(self._bos) else ""
        return self._encode(start + text)

    def _encode_plain(self, text: str) -> list[int]:
        """The tokens of a text in which no special token's text is one; the model's start token first."""
        pieces = re.split(f"({self._special_text.pattern})", text)
        opening, closing, alias = islice((mark for mark in map(chr, _PRIVATE_USE) if mark not in text), 3)
        pieces[0] = (self._bos or "") + pieces[0]
        return self._encode_guarded(pieces, re.compile(f"[{opening}{closing}]"), alias)

    def _only_known(self, tokens: list[int]) -> list[int]:
        """``tokens``; :class:`BadParameter` for one that the weights have no embedding of."""
        if self._known is not None and tokens and max(tokens) >= self._known:
            strange = max(tokens)
            raise BadParameter("/", f"the text has the token {strange}, and the weights know {self._known}")
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``; special tokens are left out."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    @property
    def template(self) -> ChatTemplate | None:
        """The model's chat template, if it has one."""
        return self._template

    @property
    def vocabulary(self) -> int:
        """How many tokens there are, added ones included."""
        return self._tokenizer.get_vocab_size()

    def to_json(self) -> str:
        """The tokenizer as ``tokenizer.json`` has it."""
        return self._tokenizer.to_str()

    def token_text(self, token: int) -> str:
        """What one token reads as amid a text; a special token by its name, a part of a character as U+FFFD."""
        before = self._tokenizer.encode("a", add_special_tokens=False).ids
        text = self.decode([*before, token])[len(self.decode(before)) :]
        return text or self._tokenizer.id_to_token(token) or ""

    def detokenizer(self) -> Detokenizer:
        """A new stream of text."""
        return Detokenizer(self)

    def _encode(self, text: str) -> list[int]:
        return self._only_known(_encode_with(self._tokenizer, text))

    @cached_property
    def _special_text(self) -> re.Pattern[str]:
        specials = [token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special]
        longest_first = sorted(specials, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) if specials else r"(?!)")

    def _encode_guarded(self, pieces: list[str], stray: re.Pattern[str], alias: str) -> list[int]:
        """The tokens of ``pieces`` in one: every second one is a user's, with a special token's text that stays text.

        The template's own special tokens go by an alias through a tokenizer that is blind to their names.
        """
        plain, ids = self._blind(alias)
        for place in range(0, len(pieces), 2):
            own = stray.sub("", pieces[place])
            pieces[place] = self._special_text.sub(lambda found: f"{alias}{found[0][::-1]}{alias}", own)
        return self._only_known([ids.get(token, token) for token in _encode_with(plain, "".join(pieces))])

    def _blind(self, alias: str) -> tuple[Tokenizer, dict[int, int]]:
        """A copy that takes special tokens for text, and has each again, backwards between two ``alias``: their ids."""
        if alias not in self._blinded:
            self._blinded.clear()  # one is kept: nobody but a prober writes these characters
            plain = Tokenizer.from_str(self._tokenizer.to_str())
            plain.encode_special_tokens = True
            ids: dict[int, int] = {}
            for id_, token in self._tokenizer.get_added_tokens_decoder().items():
                if token.special:
                    name = f"{alias}{token.content[::-1]}{alias}"
                    edges = {"lstrip": token.lstrip, "rstrip": token.rstrip}
                    plain.add_tokens([AddedToken(name, normalized=False, special=False, **edges)])
                    stands_in = plain.token_to_id(name)
                    assert stands_in is not None  # it was just added
                    ids[stands_in] = id_
            self._blinded[alias] = plain, ids
        return self._blinded[alias]


def _strings(value: Any) -> Iterator[str]:
    """Every string in ``value``, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.items():
            yield from _strings(entry)
    elif isinstance(value, Sequence):
        for entry in value:
            yield from _strings(entry)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_mapped(name, change): _mapped(entry, change) for name, entry in value.items()}
    if isinstance(value, Sequence):
        return [_mapped(entry, change) for entry in value]
    return value


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
