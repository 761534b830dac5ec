"""``text_completion``, whole and in chunks, which have the same shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from runtime.answer_text import TokenLogprob
from runtime.tasks.text_generation import Finished, TextDelta
from worker.forms.openai import Heard, head, heard, told_error, usage_of
from worker.streams import DONE, framed

if TYPE_CHECKING:
    from worker.answer import Answer


class CompletionForm:
    """The form of ``completions``. ``usage``: whether a stream ends with it."""

    def __init__(self, model: str, *, usage: bool) -> None:
        self._model = model
        self._usage = usage

    async def whole(self, answer: Answer) -> dict[str, Any]:
        """A ``text_completion`` of one choice."""
        said = await heard(aiter(answer))
        choice = _choice(said.text, said.logprobs, 0, said.reason)
        return {**self._head(answer), "choices": [choice], "usage": said.usage.as_dict()}

    def frames(self, answer: Answer) -> AsyncIterator[bytes]:
        """The pieces, and with the reason of the end the usage."""
        return framed(self._chunks(answer), told_error)

    async def _chunks(self, answer: Answer) -> AsyncIterator[dict[str, Any] | str]:
        opening, so_far = self._head(answer), Heard()
        async for event in answer:
            before = len(so_far.text)
            so_far.hear(event)
            match event:
                case TextDelta(text, tokens):
                    yield {**opening, "choices": [_choice(text, tokens, before)]}
                case Finished():
                    last = {**opening, "choices": [_choice("", (), before, so_far.reason)]}
                    yield {**last, "usage": usage_of(so_far, answer)} if self._usage else last
        yield DONE

    def _head(self, answer: Answer) -> dict[str, Any]:
        return head("text_completion", f"cmpl-{answer.request_id}", self._model)


def _choice(text: str, tokens: Sequence[TokenLogprob], offset: int, reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": _logprobs(tokens, offset), "finish_reason": reason}


def _logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any] | None:
    if not tokens:
        return None
    offsets = [offset]
    for token in tokens[:-1]:
        offsets.append(offsets[-1] + len(token.text))
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [dict(token.top) for token in tokens],
        "text_offset": offsets,
    }
