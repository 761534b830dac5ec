"""Text generation: a prompt or a chat in, typed events out. Knows templates, tokens and stopping; no API's frames."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from runtime.adapter import Adapter
from runtime.config import GenerationInputs, SamplingParams, TokenLimits, Usage
from runtime.engine import Engine
from runtime.errors import BadParameter, ContextTooLong
from runtime.sequence import FinishReason
from runtime.stopping import StopStrings
from runtime.tokenizer import ChatTokenizer

DEFAULT_TEMPERATURE = 0.6
"""Where neither the inputs nor the card's schema name one; the value in the platform's current schemas."""
DEFAULT_MAX_TOKENS = 256
_HALF = "\ufffd"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the answer: why (``None`` where a remote roost answers), and how many tokens it took."""

    reason: FinishReason | None
    usage: Usage


Event: TypeAlias = TextDelta | Finished


class TextGeneration:
    """The task over one loaded model."""

    def __init__(self, engine: Engine, tokenizer: ChatTokenizer, stop_tokens: frozenset[int]) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._stop_tokens = stop_tokens

    async def generate(
        self, inputs: GenerationInputs, limits: TokenLimits, adapter: Adapter | None = None
    ) -> AsyncGenerator[Event]:
        """Events of one answer, the last of them :class:`Finished`. Closing the iterator stops the computation.

        Raises :class:`ContextTooLong` past ``limits``, :class:`BadParameter` for inputs that mean nothing,
        :class:`Overloaded` where the engine has no room, all before the first event.
        """
        prompt = self._encode(inputs)
        self._check_limits(len(prompt), inputs.max_tokens, limits)
        generation = self._engine.submit(
            prompt,
            max_tokens=inputs.max_tokens,
            stop_tokens=self._stop_tokens,
            sampling=inputs.sampling,
            adapter=adapter,
        )
        text, stops = self._tokenizer.detokenizer(), StopStrings(inputs.stop)
        count, reason = 0, None
        tokens = generation.__aiter__()
        try:
            async for token in tokens:
                count, reason = count + 1, token.finished
                ended = token.finished == "stop"
                shown = stops.feed("" if ended else text.feed(token.id))
                if reason or stops.found:
                    break
                if shown:
                    yield TextDelta(shown)
        finally:
            await tokens.aclose()
        if not stops.found:
            shown += stops.feed(text.finish().rstrip(_HALF))  # the limit may fall inside a character
            shown += "" if stops.found else stops.finish()
        if shown:
            yield TextDelta(shown)
        yield Finished("stop" if stops.found else reason or "stop", Usage(len(prompt), count, generation.cached_tokens))

    def _encode(self, inputs: GenerationInputs) -> list[int]:
        messages = inputs.messages or ({"role": "user", "content": inputs.prompt or ""},)
        if inputs.raw:
            tokens = self._tokenizer.encode_raw("".join(str(message["content"]) for message in messages))
        else:
            tokens = self._tokenizer.encode_chat(messages)
        if not tokens:
            raise BadParameter("/prompt", "the prompt has no tokens")
        return tokens

    def _check_limits(self, prompt: int, max_tokens: int, limits: TokenLimits) -> None:
        if limits.input is not None and prompt > limits.input:
            raise ContextTooLong(prompt, limits.input, what="input tokens")
        total = min(self._engine.capacity, limits.total or self._engine.capacity)
        if prompt + max_tokens > total:
            raise ContextTooLong(prompt + max_tokens, total)


def read_inputs(inputs: Mapping[str, Any]) -> GenerationInputs:
    """Validated inputs (a card's defaults filled in) as this task's own type; :class:`BadParameter` if senseless."""
    max_tokens = int(inputs.get("max_tokens", DEFAULT_MAX_TOKENS))
    if max_tokens < 1:
        raise BadParameter("/max_tokens", "'/max_tokens' must be >= 1")
    stop = inputs.get("stop", ())
    return GenerationInputs(
        max_tokens=max_tokens,
        sampling=_sampling(inputs),
        prompt=inputs.get("prompt"),
        messages=tuple(inputs.get("messages", ())),
        raw=inputs.get("raw") in (True, "true"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def _sampling(inputs: Mapping[str, Any]) -> SamplingParams:
    return SamplingParams(
        temperature=inputs.get("temperature", DEFAULT_TEMPERATURE),
        top_p=inputs.get("top_p"),
        top_k=_whole(inputs.get("top_k")),
        seed=_whole(inputs.get("seed")),
        repetition_penalty=inputs.get("repetition_penalty"),
        frequency_penalty=inputs.get("frequency_penalty"),
        presence_penalty=inputs.get("presence_penalty"),
        min_p=inputs.get("min_p"),
    )


def _whole(value: float | None) -> int | None:
    """JSON Schema counts 2.0 as an integer; Python doesn't."""
    return None if value is None else int(value)
