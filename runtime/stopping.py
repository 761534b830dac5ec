"""Finds stop strings in text that comes in pieces, and never lets out the start of one."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Text goes in as it is generated; what can't be part of a stop string any more comes out.

    The stop string that is complete first ends the text (of two at once the longer), whatever the pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """The text that may be shown. Once :attr:`found`, the stop string and what follows are gone."""
        self._held += text
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.found = True
            _, start = min(found)
            return self._release(start)
        return self._release(len(self._held) - self._longest_beginning())

    def finish(self) -> str:
        """The rest, once no text follows."""
        return self._release(len(self._held))

    def _longest_beginning(self) -> int:
        """How many characters at the end of the held text begin a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0

    def _release(self, end: int) -> str:
        shown, self._held = self._held[:end], "" if self.found else self._held[end:]
        return shown
