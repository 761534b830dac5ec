"""Prompts whose keys and values are kept after they were read, so that the next one with the same beginning is cheap.

Only what a prompt's chunks wrote is kept: a decode step may round differently from a chunk, and what is reused must be
bit for bit what reading the prompt anew would write. Plain data; the scheduler turns it into copies between slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WORTH_KEEPING = 16
"""Tokens under which a prompt is neither kept nor looked up: reading them costs about as much as copying them."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """A kept prompt: the adapter it was read with, its tokens, and the slot that holds them."""

    adapter: str | None
    tokens: tuple[int, ...]
    slot: int

    def shared(self, adapter: str | None, tokens: Sequence[int]) -> int:
        """How many tokens at the beginning of a prompt this one holds already."""
        return common_length(self.tokens, tokens) if adapter == self.adapter else 0


class PrefixCache:
    """Kept prompts in ``slots``, the least recently used first."""

    def __init__(self, slots: range) -> None:
        self._free = list(reversed(slots))
        self._kept: list[Prefix] = []

    def __iter__(self) -> Iterator[Prefix]:
        return iter(self._kept)

    @property
    def tokens(self) -> int:
        """Cache tokens that the kept prompts hold."""
        return sum(len(prefix.tokens) for prefix in self._kept)

    def longest(self, adapter: str | None, tokens: Sequence[int]) -> Prefix | None:
        """The kept prompt that shares the longest beginning with ``tokens``, now the most recently used."""
        shared = [prefix.shared(adapter, tokens) for prefix in self._kept]
        if not any(shared):
            return None
        best = self._kept[shared.index(max(shared))]
        self._kept.remove(best)
        self._kept.append(best)
        return best

    def keep(self, adapter: str | None, tokens: tuple[int, ...]) -> tuple[int, int] | None:
        """Make place for ``tokens``: the slot to copy them to and how many it holds already; ``None`` if needless."""
        near = self.longest(adapter, tokens)
        held = near.shared(adapter, tokens) if near is not None else 0
        if held == len(tokens) or not (self._free or self._kept):
            return None
        if near is not None and held == len(near.tokens):  # the prompt goes on where this one ends: it replaces it
            self._kept.remove(near)
            slot = near.slot
        else:
            slot, held = self._free.pop() if self._free else self._kept.pop(0).slot, 0
        self._kept.append(Prefix(adapter, tokens, slot))
        return slot, held

    def evict(self) -> int | None:
        """Give up the least recently used prompt: its slot, or ``None`` where nothing is kept."""
        if not self._kept:
            return None
        slot = self._kept.pop(0).slot
        self._free.append(slot)
        return slot


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the longest common beginning."""
    length = min(len(one), len(other))
    if tuple(one[:length]) == tuple(other[:length]):
        return length
    return next(place for place in range(length) if one[place] != other[place])
