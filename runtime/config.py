"""The few values that shape a model, an engine and a request; plain data without behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The dimensions of a Llama-family decoder (counts, unless said otherwise).

    ``context`` is the longest sequence in tokens; ``window`` the attention's sliding window in tokens,
    ``None`` for full attention; ``rope_theta`` the base of the rotary frequencies.
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


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How one engine shares a model among requests.

    ``rows``: sequences decoded at once. ``waiting``: requests that may queue beyond them. ``chunk_tokens``:
    prompt tokens per step while other rows stream; ``prefill_tokens``: per step while none does. ``context``: the
    longest sequence a row holds, in tokens. ``kv_bytes``: KV cache over all rows; past it the youngest row yields.
    """

    rows: int = 16
    waiting: int = 256
    chunk_tokens: int = 64
    prefill_tokens: int = 512
    context: int = 4096
    kv_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen; ``None`` leaves a step out. Ranges are those of the model's card."""

    temperature: float = 1.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What a model's card admits, in tokens; ``None`` where the card sets no bound."""

    input: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request read and wrote."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens

    def as_dict(self) -> dict[str, int]:
        """The three counts under the API's names."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }


@dataclass(frozen=True, slots=True)
class GenerationInputs:
    """A text-generation request after validation: a prompt or messages, and how to answer it."""

    max_tokens: int
    sampling: SamplingParams
    prompt: str | None = None
    messages: tuple[dict[str, object], ...] = field(default=())
    raw: bool = False
    stop: tuple[str, ...] = ()
