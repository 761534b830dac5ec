"""The few values that shape a model, an engine and a request; plain data without behaviour."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Pooling: TypeAlias = Literal["mean", "cls"]
"""How one vector is made of all tokens' ones: their mean, or the first token's."""


def switched_on(variable: str, *, otherwise: bool) -> bool:
    """Whether an environment variable says yes; ``otherwise`` where it isn't set."""
    said = os.environ.get(variable, "").strip().lower()
    return said not in ("0", "false", "no", "off", "f", "n") if said else otherwise


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The dimensions of a decoder of Llama's kind, and the constants in which such decoders differ.

    ``context``: the longest sequence in tokens. ``window``: the attention's sliding window in tokens, ``None`` for full
    attention; ``full_layers`` have full attention all the same. Rotary position ``p`` turns the ``i``-th pair of the
    first ``rotary_dim`` values of a head (``None``: all) by ``p * rope_theta ** (-2 i / rotary_dim) / rope_factors[i]``
    (no factors: 1); its sine and cosine are multiplied by ``rope_scale``. ``embedding_scale`` multiplies embeddings,
    ``attention_scale`` (``None``: one over the root of ``head_dim``) the products of queries and keys. A softcap ``c``
    turns ``x`` into ``c * tanh(x / c)``; 0 is none.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int
    rope_theta: float
    norm_epsilon: float
    window: int | None = None
    full_layers: tuple[int, ...] = ()
    rotary_dim: int | None = None
    rope_factors: tuple[float, ...] = ()
    rope_scale: float = 1.0
    activation: Literal["silu", "gelu_tanh"] = "silu"
    embedding_scale: float = 1.0
    attention_scale: float | None = None
    attention_softcap: float = 0.0
    logit_softcap: float = 0.0


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """The dimensions of an encoder of BERT's kind. ``context``: the longest text in tokens.

    ``types``: kinds of segments, of which the first alone is used. ``first_position``: the row of the table of
    positions that the first token has.
    """

    layers: int
    hidden: int
    heads: int
    ffn: int
    vocab: int
    context: int
    norm_epsilon: float
    types: int = 2
    first_position: int = 0
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"


@dataclass(frozen=True, slots=True)
class EmbeddingFacts:
    """How texts become vectors by an artifact's graph. ``output``: the one that has a vector for each token.

    ``inputs``: what the graph is fed, by name. ``longest``: tokens of a text, those that the tokenizer adds included.
    ``pooling`` and ``normalised``: as the model's authors have it; requests may ask for another pooling.
    """

    graph: str
    inputs: tuple[str, ...]
    output: str
    dimensions: int
    longest: int
    pooling: Pooling
    normalised: bool


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How one engine shares a model among requests.

    ``rows``: sequences decoded at once. ``waiting``: requests that may queue beyond them. ``chunk_tokens``:
    prompt tokens per step while other rows stream; ``prefill_tokens``: per step while none does. ``context``: the
    longest sequence a row holds, in tokens. ``kv_bytes``: KV cache over all rows and kept prompts, ``None`` for a share
    of the machine's memory; past it kept prompts are given up, then the youngest row yields. ``kept_prompts``: how many
    read prompts are kept for others that begin alike. ``deterministic``: a seed gives the same text under any load;
    without it drafted tokens are verified several at a time and answers are kept like prompts. ``grid``: the length of
    every chunk but a prompt's last, where the device rounds by it, ``None`` elsewhere. ``debug``: check the scheduler's
    invariants at every step.
    """

    rows: int = 16
    waiting: int = 256
    chunk_tokens: int = 64
    prefill_tokens: int = 192
    context: int = 4096
    kv_bytes: int | None = None
    kept_prompts: int = 16
    deterministic: bool = True
    grid: int | None = None
    debug: bool = field(default_factory=lambda: switched_on("ROOST_DEBUG", otherwise=False))


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen; ``None`` leaves a step out. Ranges are those of the model's card.

    ``min_p``: the least probability, as a share of the best one's. ``logit_bias``: pairs of a token and what is added
    to its score. ``logprobs``: how many of the best tokens to tell of, 0 for the chosen one alone.
    """

    temperature: float = 1.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    min_p: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What a model's card admits, in tokens; ``None`` where the card sets no bound."""

    input: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request read and wrote; ``cached_tokens`` of the prompt were kept from an earlier one."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens

    def as_dict(self) -> dict[str, Any]:
        """The counts under the API's names; cached tokens, where there are any, as OpenAI's API tells them."""
        counts: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }
        if self.cached_tokens:
            counts["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        return counts

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> Usage:
        """The counts that :meth:`as_dict` wrote; ``KeyError`` if one is missing."""
        cached = counts.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        return cls(counts["prompt_tokens"], counts["completion_tokens"], cached)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. ``parameters``: the JSON Schema of its arguments, an object's."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GenerationInputs:
    """A text-generation request after validation: a prompt or messages, and how to answer it.

    ``schema``: the JSON Schema that the answer must be of. ``tools``: what it may call in place of words, and must if
    ``must_call``.
    """

    max_tokens: int
    sampling: SamplingParams
    prompt: str | None = None
    messages: tuple[dict[str, object], ...] = field(default=())
    raw: bool = False
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
