"""An answer's text as its tokens come: whole characters, nothing of a stop string, calls taken out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.config import GenerationInputs
from runtime.engine import GeneratedToken
from runtime.errors import JsonCut
from runtime.json_schema import check
from runtime.sequence import FinishReason
from runtime.stopping import StopStrings
from runtime.tokenizer import ChatTokenizer
from runtime.tool_calls import CallReader, ToolCall, schema_of

_HALF = "\ufffd"


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token as text and its log-probability (natural, of the model's own distribution); the best of its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class AnswerText:
    """Tokens in, text out. :attr:`count` are the tokens read, :attr:`reason` says why the answer ended."""

    def __init__(self, tokenizer: ChatTokenizer, inputs: GenerationInputs) -> None:
        self._tokenizer = tokenizer
        self._text = tokenizer.detokenizer()
        self._stops = StopStrings(inputs.stop)
        self._calls = CallReader(inputs.tools) if inputs.tools else None
        self._must_call = inputs.must_call
        self._schema = inputs.schema
        self._schemas = {tool.name: schema_of(tool) for tool in inputs.tools}
        self._said: list[str] = []
        self._told: list[TokenLogprob] = []
        self._reason: FinishReason | None = None
        self._last = ""
        self.count = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more belongs to the answer."""
        return self._reason is not None or self._stops.found

    @property
    def reason(self) -> FinishReason:
        """Why the answer ended."""
        return "stop" if self._stops.found else self._reason or "stop"

    def feed(self, token: GeneratedToken) -> str:
        """The text that may be shown after ``token``; once :attr:`ended`, :meth:`finish` has it."""
        self.count, self._reason = self.count + 1, token.finished
        ended_by_itself = token.finished == "stop"
        if token.logprob is not None and not ended_by_itself:
            self._told.append(self._logprob(token, token.logprob))
        shown = self._stops.feed("" if ended_by_itself else self._text.feed(token.id))
        if self.ended:
            self._last = shown
            return ""
        return self._without_calls(shown)

    def finish(self) -> tuple[str, list[ToolCall]]:
        """The rest of the text, and the calls that stood in it."""
        rest = self._last
        if not self._stops.found:
            rest += self._stops.feed(self._text.finish().rstrip(_HALF))  # the limit may fall inside a character
            rest += "" if self._stops.found else self._stops.finish()
        rest = self._without_calls(rest)
        if self._calls is None:
            return rest, []
        held, calls = self._calls.finish()
        self._said.append(held)
        return rest + held, calls

    def told(self) -> tuple[TokenLogprob, ...]:
        """The log-probabilities since the last call."""
        told, self._told = tuple(self._told), []
        return told

    def check_whole(self, complete: bool, calls: Sequence[ToolCall]) -> None:
        """Raise :class:`JsonCut` unless the answer is what it had to be, :class:`JsonUnmet` if not of its schema.

        ``complete``: what its grammar says.
        """
        for call in calls:
            check(self._schemas[call.name], json.loads(call.arguments))
        if calls:
            return
        try:
            value = json.loads("".join(self._said))
            json.dumps(value, allow_nan=False)  # NaN and infinity aren't JSON; a number like 1e999 reads as one
            whole = complete and not self._must_call
        except (ValueError, RecursionError):
            whole = False
        if whole and self._schema is not None:
            check(self._schema, value)
        if not whole:
            raise JsonCut(f"the answer ended after {self.count} tokens, inside its {self._wanted}")

    @property
    def _wanted(self) -> str:
        return "JSON" if self._schema is not None and not self._must_call else "tool call"

    def _without_calls(self, text: str) -> str:
        shown = text if self._calls is None else self._calls.feed(text)
        self._said.append(shown)
        return shown

    def _logprob(self, token: GeneratedToken, logprob: float) -> TokenLogprob:
        top = tuple((self._tokenizer.token_text(id_), value) for id_, value in token.top)
        return TokenLogprob(self._tokenizer.token_text(token.id), logprob, top)
