"""Text generation: a prompt or a chat in, typed events out. Knows templates, tokens and stopping; no API's frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypeAlias

from runtime.adapter import Adapter
from runtime.answer_text import AnswerText, TokenLogprob
from runtime.config import GenerationInputs, SamplingParams, TokenLimits, Tool, Usage
from runtime.engine import Engine
from runtime.errors import BadParameter, ContextTooLong
from runtime.grammar import GrammarConstraint, Grammars, json_rule
from runtime.progress import Progress
from runtime.sequence import FinishReason
from runtime.tokenizer import ChatTokenizer
from runtime.tool_calls import ToolCall, described, dialect_of, in_words, with_parsed_calls


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer. ``tokens``: its tokens' log-probabilities, where they were asked for.

    The text is never empty, but for a last piece that only carries tokens.
    """

    text: str
    tokens: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the answer: why (``None`` where a remote roost answers), and how many tokens it took.

    ``json``: the whole text is a JSON value, because one was asked for.
    """

    reason: FinishReason | None
    usage: Usage
    json: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The whole result of a model that doesn't write text: a JSON value in the shape of its card."""

    value: dict[str, Any]


Event: TypeAlias = TextDelta | ToolCall | Result | Finished


class TextGeneration:
    """The task over one loaded model."""

    def __init__(
        self, engine: Engine, tokenizer: ChatTokenizer, stop_tokens: frozenset[int], grammars: Grammars
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._stop_tokens = stop_tokens
        self._grammars = grammars

    async def generate(
        self,
        inputs: GenerationInputs,
        limits: TokenLimits,
        adapter: Adapter | None = None,
        progress: Progress | None = None,
    ) -> AsyncGenerator[Event]:
        """Events of one answer, the last of them :class:`Finished`. Closing the iterator stops the computation.

        Raises :class:`ContextTooLong` past ``limits``, :class:`BadParameter` for inputs that mean nothing,
        :class:`Overloaded` where the engine has no room, all before the first event; :class:`JsonCut` at the end of
        an answer that had to be JSON or a call and isn't whole, :class:`JsonUnmet` where it isn't of its schema.
        """
        prompt = self._checked(inputs, limits)
        constraint = await self._constraint(inputs)
        generation = self._engine.submit(
            prompt,
            max_tokens=inputs.max_tokens,
            stop_tokens=self._stop_tokens,
            sampling=inputs.sampling,
            adapter=adapter,
            constraint=constraint,
            progress=progress,
        )
        text = AnswerText(self._tokenizer, inputs)
        tokens = generation.__aiter__()
        try:
            async for token in tokens:
                shown = text.feed(token)
                if text.ended:
                    break
                if shown:
                    yield TextDelta(shown, text.told())
        finally:
            await tokens.aclose()
        rest, calls = text.finish()
        if constraint is not None:
            text.check_whole(constraint.complete, calls)
        if (told := text.told()) or rest:
            yield TextDelta(rest, told)
        for call in calls:
            yield call
        usage = Usage(len(prompt), text.count, generation.cached_tokens)
        yield Finished(text.reason, usage, json=inputs.schema is not None and not calls)

    async def _constraint(self, inputs: GenerationInputs) -> GrammarConstraint | None:
        """What the answer must be: JSON of a schema, or a call; either, where tools may but needn't be called."""
        if inputs.schema is None and not inputs.must_call:
            return None
        template = self._tokenizer.template
        dialect = dialect_of(template.source if template else None)
        rules = [dialect.rule(tool, "/tools") for tool in inputs.tools]
        if inputs.schema is not None and not inputs.must_call:
            rules.insert(0, json_rule(inputs.schema, "/response_format"))
        return await asyncio.to_thread(self._grammars.compile, rules)

    def _checked(self, inputs: GenerationInputs, limits: TokenLimits) -> list[int]:
        """The prompt's tokens; raises where the request can't be met."""
        prompt = self._encode(inputs)
        self._check_limits(len(prompt), inputs.max_tokens, limits)
        self._check_bias(inputs.sampling)
        return prompt

    def _encode(self, inputs: GenerationInputs) -> list[int]:
        messages = inputs.messages or ({"role": "user", "content": inputs.prompt or ""},)
        if inputs.raw:
            tokens = self._tokenizer.encode_raw("".join(str(message.get("content") or "") for message in messages))
        else:
            tokens = self._encode_chat(with_parsed_calls(messages), inputs.tools)
        if not tokens:
            raise BadParameter("/prompt", "the prompt has no tokens")
        return tokens

    def _encode_chat(self, messages: list[dict[str, Any]], tools: tuple[Tool, ...]) -> list[int]:
        template = self._tokenizer.template
        if template is not None and template.takes_tools:
            return self._tokenizer.encode_chat(messages, described(tools) or None)
        return self._tokenizer.encode_chat(in_words(messages, tools))

    def _check_bias(self, sampling: SamplingParams) -> None:
        known = self._tokenizer.vocabulary
        if unknown := [token for token, _ in sampling.logit_bias if not 0 <= token < known]:
            raise BadParameter("/logit_bias", f"'/logit_bias' names token {unknown[0]}, of 0 to {known - 1}")

    def _check_limits(self, prompt: int, max_tokens: int, limits: TokenLimits) -> None:
        if limits.input is not None and prompt > limits.input:
            raise ContextTooLong(prompt, limits.input, what="input tokens")
        total = min(self._engine.capacity, limits.total or self._engine.capacity)
        if prompt + max_tokens > total:
            raise ContextTooLong(prompt + max_tokens, total)
