"""One request inside the engine: its tokens, how many of them the KV cache holds, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.adapter import Adapter
from runtime.speculation import PromptLookup

FinishReason = Literal["stop", "length"]


@dataclass(slots=True)
class Sequence:
    """The tokens of one request. ``tokens`` is the prompt, then what was generated.

    ``cached`` counts the leading tokens whose keys and values are in the cache. It is short of ``len(tokens)`` by
    one while decoding, by more while the prompt is read or, after a preemption, while known tokens are replayed.
    ``reused`` counts the prompt's tokens that needed no reading, because a prompt with the same beginning was kept.
    ``adapter`` changes the model for this request.
    ``lookup`` drafts tokens to be verified several at a time, where that is allowed.
    """

    id: int
    tokens: list[int]
    prompt_length: int
    max_tokens: int
    stop_tokens: frozenset[int]
    adapter: Adapter | None = None
    cached: int = 0
    reused: int = 0
    lookup: PromptLookup | None = None

    @property
    def prefix_key(self) -> str | None:
        """What must be equal for two prompts to share a beginning: the adapter that it is read with."""
        return None if self.adapter is None else self.adapter.key

    @property
    def generated(self) -> int:
        """How many tokens were generated so far."""
        return len(self.tokens) - self.prompt_length

    @property
    def reads_prompt(self) -> bool:
        """Whether part of the prompt isn't in the cache yet."""
        return self.cached < self.prompt_length

    def append(self, token: int) -> FinishReason | None:
        """Record a generated token; the reason why it was the last, if it was."""
        self.tokens.append(token)
        if self.lookup is not None:
            self.lookup.append(token)
        if token in self.stop_tokens:
            return "stop"
        return "length" if self.generated >= self.max_tokens else None

    def draft(self, rows: int, room: int) -> tuple[int, ...]:
        """Up to ``room`` tokens that may follow, none of them one that would end the answer."""
        if self.lookup is None:
            return ()
        proposed = self.lookup.propose(rows, min(room, self.max_tokens - self.generated - 1))
        ends = (place for place, token in enumerate(proposed) if token in self.stop_tokens)
        return proposed[: next(ends, len(proposed))]

    def preempt(self) -> None:
        """Forget what is cached.

        The prompt will be read in chunks and the rest replayed token by token, the same kinds of step that wrote it,
        so that the cache comes back bit for bit.
        """
        self.cached = 0
