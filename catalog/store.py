"""The set of cards: find one by name, search them, page through them. Knows files, not models that run."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from catalog.card import CardError, ModelCard, load_card

SHIPPED = Path(__file__).parent / "cards"
SEED = "@hf/nexusflow/starling-lm-7b-beta"
"""The card that roost began with; nothing takes its place."""
SEED_FILE = SHIPPED / "starling-lm-7b-beta.md"
_SUFFIXES = (".md", ".yaml", ".yml", ".json")
_log = logging.getLogger(__name__)


class UnknownModel(LookupError):
    """A name that no card bears. ``suggestions`` are the names closest to it."""

    def __init__(self, name: str, suggestions: tuple[str, ...] = ()) -> None:
        super().__init__(f"No such model {name} or task")
        self.name = name
        self.suggestions = suggestions


@dataclass(frozen=True, slots=True)
class Query:
    """A search of the catalogue; every field that is given narrows it (the API's models/search filters)."""

    search: str | None = None
    task: str | None = None
    author: str | None = None
    source: int | None = None
    hide_experimental: bool = False
    include_deprecated: bool = False
    page: int = 1
    per_page: int = 50

    def accepts(self, card: ModelCard) -> bool:
        """Whether ``card`` passes every filter."""
        text = f"{card.name}\n{card.description}".casefold()
        return (
            (self.search is None or self.search.casefold() in text)
            and (self.task is None or self.task == card.task.name)
            and (self.author is None or self.author.casefold() == card.author.casefold())
            and (self.source is None or self.source == card.source)
            and not (self.hide_experimental and card.beta)
            and (self.include_deprecated or not card.deprecated)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a search, with the count over all pages. Past the end ``cards`` is empty."""

    cards: tuple[ModelCard, ...]
    page: int
    per_page: int
    total: int


@dataclass(slots=True)
class Catalog:
    """Cards by name; ``files`` says where each came from."""

    cards: dict[str, ModelCard] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def load(cls, *folders: Path, told: bool = True) -> Catalog:
        """The seed, then the cards of ``folders``, of which a later one wins over an earlier, then the shipped ones.

        Among several cards of a name in one folder the newest wins. What is passed over in ``folders`` is logged if
        it is to be ``told``: files that are no cards, and how many cards made way for another of their name.
        """
        catalog = cls()
        catalog._add_all([(SEED_FILE, load_card(SEED_FILE))], told=False)
        for folder in reversed(folders):
            catalog._add_all(read_folder(folder), told=told)
        catalog._add_all(((path, card) for path, card in read_folder(SHIPPED) if path != SEED_FILE), told=False)
        return catalog

    def _add_all(self, found: Iterable[tuple[Path, ModelCard | CardError]], *, told: bool) -> None:
        cards = []
        for path, card in found:
            if isinstance(card, CardError):
                if told:
                    _log.warning("passed over %s", card)
            else:
                cards.append((path, card))
        taken = 0
        for path, card in sorted(cards, key=lambda pair: pair[1].age):
            taken += card.name in self.cards
            if self.cards.setdefault(card.name, card) is card:
                self.files[card.name] = path
        if taken and told:
            _log.warning("passed over %d cards whose models have others: roost models doctor names them", taken)

    def __getitem__(self, name: str) -> ModelCard:
        try:
            return self.cards[name]
        except KeyError:
            raise UnknownModel(name, self._like(name)) from None

    def _like(self, name: str) -> tuple[str, ...]:
        """Names close to ``name``, or whose last part is close to its last part."""
        last = {full.rsplit("/", 1)[-1]: full for full in self.cards}
        close = difflib.get_close_matches(name, self.cards, n=3, cutoff=0.5)
        short = difflib.get_close_matches(name.rsplit("/", 1)[-1], last, n=3, cutoff=0.5)
        return tuple(dict.fromkeys([*close, *(last[part] for part in short)]))

    def __iter__(self) -> Iterator[ModelCard]:
        return iter(self.cards.values())

    def __len__(self) -> int:
        return len(self.cards)

    def search(self, query: Query) -> Page:
        """The cards that ``query`` accepts, by name, and the page of them that it asks for."""
        found = sorted(filter(query.accepts, self), key=lambda card: card.name)
        start = (query.page - 1) * query.per_page
        chosen = tuple(found[start : start + query.per_page])
        return Page(chosen, query.page, query.per_page, len(found))


def read_folder(folder: Path) -> Iterator[tuple[Path, ModelCard | CardError]]:
    """Every card in ``folder`` and the folders within it, by path; in its place what is wrong with a file that is none.

    Raises ``NotADirectoryError`` if it isn't a folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"no folder of cards at {folder}")
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES and not path.is_dir():
            try:
                yield path, load_card(path)
            except CardError as error:
                yield path, error
