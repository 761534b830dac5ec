"""What is wrong with the cards in some folders, what is odd about them, and which of them make way for another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.card import CardError, ModelCard
from catalog.store import SHIPPED, Catalog, read_folder


@dataclass(frozen=True, slots=True)
class Finding:
    """One file. ``model``: the name on its card, if it is one. ``problems`` want mending, ``oddities`` don't.

    ``makes_way_for``: the file that speaks for the model in its place.
    """

    file: Path
    model: str | None
    problems: tuple[str, ...] = ()
    oddities: tuple[str, ...] = ()
    makes_way_for: Path | None = None


def examine(folders: Sequence[Path]) -> list[Finding]:
    """Every file of ``folders``, or of the shipped cards if there is none, by path."""
    catalog = Catalog.load(*folders, told=False)
    return [_finding(catalog, path, card) for folder in folders or [SHIPPED] for path, card in read_folder(folder)]


def by_sentence(findings: Iterable[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """The findings under what was found, by its kind (``problem``, ``duplicate``, ``odd``) and the sentence."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        for problem in finding.problems:
            found.setdefault(("problem", problem), []).append(finding)
        for oddity in finding.oddities:
            found.setdefault(("odd", oddity), []).append(finding)
        if finding.makes_way_for is not None:
            inside = finding.makes_way_for.is_relative_to(SHIPPED)
            sentence = "the card that roost ships wins" if inside else "a newer card of the model wins"
            found.setdefault(("duplicate", sentence), []).append(finding)
    order = ("problem", "duplicate", "odd")
    return dict(sorted(found.items(), key=lambda pair: (order.index(pair[0][0]), -len(pair[1]))))


def _finding(catalog: Catalog, path: Path, card: ModelCard | CardError) -> Finding:
    if isinstance(card, CardError):
        return Finding(path, None, (str(card),))
    winner = catalog.files[card.name]
    return Finding(path, card.name, card.anomalies, card.oddities, None if winner == path else winner)
