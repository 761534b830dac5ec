"""Speculation by prompt lookup: drafts the tokens that followed the last few when these stood in the text before.

A draft costs nothing to make, and a step that verifies it costs little more than one that doesn't (Leviathan et al.
2023; lookup after Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding). Plain data, no arrays.

A draft is certain of itself, so rejection sampling is simple: at each place the request samples as it always does, and
goes on while it samples what was drafted. That accepts with the model's own probability of the draft and otherwise
leaves the rest of its distribution, and it draws the same numbers from the request's stream as without a draft.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_ROWS = 2
"""Rows beyond which the step's time goes into arithmetic, and a drafted token costs as much as another row."""

_LONGEST = 7  # drafted tokens
_GRAMS = (4, 3, 2)  # tokens that must have stood there before, the longest tried first
_EXTRA_TOKEN = 0.14  # of a lone row's step: each further token of a verifying step (engine.md, section 6)
_PAIR = 1.2  # of a lone row's step: one of two rows, which verify one after the other
_HOPE = 0.6  # acceptance that is assumed before anything was drafted
_WEIGHT = 0.15  # of the newest verification in the running acceptance
_PATIENCE = 32  # tokens without a draft after which one is tried again


class PromptLookup:
    """One request's drafts: where each n-gram of its text stood last, and how often what followed was right."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._follows: dict[tuple[int, ...], int] = {}
        self._acceptance = _HOPE
        self._quiet = 0
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """Go on by one token."""
        place = len(self._tokens)
        for size in _GRAMS:
            if place >= size:
                self._follows[tuple(self._tokens[-size:])] = place
        self._tokens.append(token)
        self._quiet += 1

    def propose(self, rows: int, room: int) -> tuple[int, ...]:
        """Up to ``room`` tokens that may follow, where verifying them pays with ``rows`` rows running; else none."""
        if rows > MOST_ROWS:
            return ()
        count = min(room, self._worthwhile(rows))
        for size in _GRAMS if count > 0 else ():
            if place := self._follows.get(tuple(self._tokens[-size:])):
                self._quiet = 0
                return tuple(self._tokens[place : place + count])
        return ()

    def learn(self, drafted: int, accepted: int) -> None:
        """Take into account that ``accepted`` of ``drafted`` tokens were right."""
        tried = min(accepted + 1, drafted)  # whatever stands behind the first wrong one was never looked at
        self._acceptance += _WEIGHT * (accepted / tried - self._acceptance)

    def _worthwhile(self, rows: int) -> int:
        """The draft length with the most tokens per time; 0 where no draft beats a plain step."""
        gains = {count: _expected(self._acceptance, count) / _cost(rows, count) for count in range(1, _LONGEST + 1)}
        best = max(gains, key=lambda count: gains[count])
        if gains[best] > 1:
            return best
        return best if self._quiet > _PATIENCE else 0


def _expected(acceptance: float, count: int) -> float:
    """Tokens that a verifying step of ``count`` drafted ones brings: the first is certain."""
    return sum(acceptance**place for place in range(count + 1))


def _cost(rows: int, count: int) -> float:
    """The time of verifying, in steps that don't."""
    return (1 + _EXTRA_TOKEN * count) * (1 if rows == 1 else rows / _PAIR)
