"""Which cards a query of the list asks for, and how many there would be by every other choice. Knows no HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.datastructures import QueryParams

from catalog import ModelCard
from runtime.tasks import TASKS

_YES_NO = ("yes", "no")
Read: TypeAlias = Callable[[ModelCard], str]


@dataclass(frozen=True, slots=True)
class Facet:
    """One question with a few answers. ``read`` gives a card's own."""

    name: str
    title: str
    read: Read

    def accepts(self, card: ModelCard, chosen: frozenset[str]) -> bool:
        """Whether the card's answer was chosen; every card passes where none was."""
        return not chosen or self.read(card) in chosen


def runs_here(card: ModelCard) -> bool:
    """Whether roost has what performs the card's task."""
    return card.task.name in TASKS


def _yes(question: Callable[[ModelCard], bool]) -> Read:
    return lambda card: _YES_NO[not question(card)]


FACETS = (
    Facet("runs", "Runs here", _yes(runs_here)),
    Facet("task", "Task", lambda card: card.task.name),
    Facet("tools", "Function calling", _yes(lambda card: card.calls_functions)),
    Facet("lora", "LoRA", _yes(lambda card: card.takes_lora)),
    Facet("beta", "Beta", _yes(lambda card: card.beta)),
    Facet("deprecated", "Deprecated", _yes(lambda card: card.deprecated)),
    Facet("author", "Author", lambda card: card.author),
)


@dataclass(frozen=True, slots=True)
class Browse:
    """What the list is asked for: words that a card must have, and the chosen answers by the facet's name."""

    words: str
    chosen: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, params: QueryParams) -> Browse:
        """The query string's; unknown names are ignored."""
        chosen = {facet.name: frozenset(filter(None, params.getlist(facet.name))) for facet in FACETS}
        return cls(str(params.get("q") or "").strip(), chosen)

    def find(self, cards: Iterable[ModelCard]) -> list[ModelCard]:
        """The cards that pass everything: those that run here first, then by their own name."""
        found = [card for card in cards if self._accepts(card)]
        return sorted(found, key=lambda card: (not runs_here(card), card.display_name.casefold(), card.name))

    def counts(self, cards: Iterable[ModelCard]) -> list[dict[str, Any]]:
        """Every facet with its answers, and how many cards each would leave beside the other facets' choices."""
        cards = list(cards)
        return [self._counted(facet, cards) for facet in FACETS]

    def _counted(self, facet: Facet, cards: list[ModelCard]) -> dict[str, Any]:
        chosen = self.chosen[facet.name]
        counts = dict.fromkeys(map(facet.read, cards), 0) | dict.fromkeys(chosen, 0)
        for card in cards:
            counts[facet.read(card)] += self._accepts(card, beside=facet)
        order = sorted(counts, key=_YES_NO.index) if counts.keys() <= {*_YES_NO} else sorted(counts, key=str.casefold)
        values = [{"value": value, "count": counts[value], "chosen": value in chosen} for value in order]
        return {"name": facet.name, "title": facet.title, "values": values}

    def _accepts(self, card: ModelCard, beside: Facet | None = None) -> bool:
        text = f"{card.name}\n{card.description}\n{card.task.name}".casefold()
        if not all(word in text for word in self.words.casefold().split()):
            return False
        return all(facet is beside or facet.accepts(card, self.chosen[facet.name]) for facet in FACETS)
