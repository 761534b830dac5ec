"""``chat.completion`` and its chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from runtime.answer_text import TokenLogprob
from runtime.tasks.text_generation import Finished, TextDelta
from runtime.tool_calls import ToolCall
from worker.forms.openai import Heard, described_call, head, heard, legacy_call, told_error, usage_of
from worker.streams import DONE, framed

if TYPE_CHECKING:
    from worker.answer import Answer


class ChatForm:
    """The form of ``chat/completions``. ``usage``: whether a stream ends with it.

    ``legacy``: the call is told as a ``function_call``, as it was asked for; there is one at most.
    """

    def __init__(self, model: str, *, usage: bool, legacy: bool = False) -> None:
        self._model = model
        self._usage = usage
        self._legacy = legacy

    async def whole(self, answer: Answer) -> dict[str, Any]:
        """A ``chat.completion`` of one choice."""
        said = await heard(aiter(answer))
        content = said.text or (None if said.calls else "")
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if said.calls and self._legacy:
            message |= legacy_call(said.calls[0])
        elif said.calls:
            message["tool_calls"] = [described_call(call) for call in said.calls]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": _logprobs(said.logprobs),
            "finish_reason": self._reason(said),
        }
        return {
            **head("chat.completion", _id(answer), self._model),
            "choices": [choice],
            "usage": said.usage.as_dict(),
        }

    def frames(self, answer: Answer) -> AsyncIterator[bytes]:
        """Chunks: the role, what is said, and with the reason of the end the usage."""
        return framed(self._chunks(answer), told_error)

    async def _chunks(self, answer: Answer) -> AsyncIterator[dict[str, Any] | str]:
        opening, so_far, begun = head("chat.completion.chunk", _id(answer), self._model), Heard(), False
        async for event in answer:
            if not begun:
                begun, silent = True, isinstance(event, ToolCall)
                yield _chunk(opening, {"role": "assistant", "content": None if silent else ""})
            so_far.hear(event)
            match event:
                case TextDelta(text, tokens):
                    yield _chunk(opening, {"content": text}, logprobs=_logprobs(tokens))
                case ToolCall() if not self._legacy:
                    yield _chunk(opening, {"tool_calls": [{"index": len(so_far.calls) - 1, **described_call(event)}]})
                case ToolCall() if len(so_far.calls) == 1:
                    yield _chunk(opening, legacy_call(event))
                case Finished():
                    last = _chunk(opening, {}, reason=self._reason(so_far))
                    yield {**last, "usage": usage_of(so_far, answer)} if self._usage else last
        yield DONE

    def _reason(self, said: Heard) -> str | None:
        return "function_call" if self._legacy and said.reason == "tool_calls" else said.reason


def _chunk(
    opening: dict[str, Any], delta: dict[str, Any], *, reason: str | None = None, logprobs: Any = None
) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return {**opening, "choices": [choice]}


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    if not tokens:
        return None
    content = [
        {**_logprob(token.text, token.logprob), "top_logprobs": [_logprob(*other) for other in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _logprob(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _id(answer: Answer) -> str:
    return f"chatcmpl-{answer.request_id}"
