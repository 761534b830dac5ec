"""``roost models``: browse the catalogue, and look for what is wrong in cards. Calls, prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from catalog import Catalog, ModelCard, Query
from catalog.doctor import Finding, by_sentence, examine
from runtime.artifacts import ArtifactStore
from runtime.tasks import TASKS
from worker.bindings.ai import describe
from wrangler_compat import serving
from wrangler_compat.one_line import one_line_errors
from wrangler_compat.terminal import entries, is_narrow, table

_FILTERS = [
    click.option("--task", help="The task's exact name, such as 'Text Generation'."),
    click.option("--author", help="The middle part of the name, such as nexusflow."),
    click.option("--source", type=int, help="1 for @cf models, 2 for @hf models."),
    click.option("--hide-experimental", is_flag=True, help="Leave out beta models."),
]
_CARDS = click.option("--cards", type=click.Path(path_type=Path), multiple=True, help="A folder of more model cards.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_NAMED = 3  # files that the doctor names per sentence


@click.group()
def models() -> None:
    """Browse the catalogue."""


def _filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed([*_FILTERS, _CARDS, _JSON]):
        command = option(command)
    return command


@models.command("list")
@click.option("--search", help="Words in the name or the description.")
@_filtered
@one_line_errors
def list_models(search: str | None, cards: tuple[Path, ...], as_json: bool, **filters: Any) -> None:
    """List the models, with the filters of `wrangler ai models list`."""
    _show_found(Query(search=search, include_deprecated=True, per_page=10_000, **filters), cards, as_json=as_json)


@models.command()
@click.argument("search")
@_filtered
@one_line_errors
def search(search: str, cards: tuple[Path, ...], as_json: bool, **filters: Any) -> None:
    """List the models whose name or description has SEARCH in it."""
    _show_found(Query(search=search, include_deprecated=True, per_page=10_000, **filters), cards, as_json=as_json)


@models.command()
@click.argument("model")
@_CARDS
@_JSON
@one_line_errors
def show(model: str, cards: tuple[Path, ...], as_json: bool) -> None:
    """Show what MODEL's card says, and which weights answer for it here."""
    serving.show_model(Catalog.load(*cards)[model], ArtifactStore(), as_json=as_json)


@models.command()
@click.argument("model")
@_CARDS
@_JSON
@one_line_errors
def schema(model: str, cards: tuple[Path, ...], as_json: bool) -> None:  # noqa: ARG001  (they are JSON anyhow)
    """Print MODEL's input and output JSON Schemas."""
    card = Catalog.load(*cards)[model]
    click.echo(json.dumps({"input": card.input_schema, "output": card.output_schema}, indent=2))


@models.command()
@_CARDS
@_JSON
@one_line_errors
def doctor(cards: tuple[Path, ...], as_json: bool) -> None:
    """Look for what is wrong or odd in the shipped cards, or in those of --cards; 1 if something is wrong."""
    findings = examine(cards)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2, default=str))
    else:
        _show_findings(findings)
    if any(finding.problems for finding in findings):
        sys.exit(1)


def _show_findings(findings: list[Finding]) -> None:
    rows = [(kind, sentence, _named(found)) for (kind, sentence), found in by_sentence(findings).items()]
    click.echo(f"{len(findings)} cards of {len({finding.model for finding in findings if finding.model})} models")
    if rows:
        table("", ("", "what", "where"), rows)


def _named(found: Sequence[Finding]) -> str:
    more = len(found) - _NAMED
    names = ", ".join(finding.file.name for finding in found[: _NAMED if more > 1 else None])
    return f"{names} and {more} more" if more > 1 else names


def _show_found(query: Query, cards: tuple[Path, ...], *, as_json: bool) -> None:
    found = Catalog.load(*cards).search(query).cards
    if as_json:
        listed = [{**describe(card), "deprecated": card.deprecated, "runnable": _runs(card)} for card in found]
        click.echo(json.dumps(listed, indent=2))
    elif is_narrow():
        entries((card.name, _told(card), card.description) for card in found)
    else:
        rows = [
            (card.name, card.task.name, "yes" if _runs(card) else "no", ", ".join(_marks(card)), card.description)
            for card in found
        ]
        table("", ("model", "task", "runs here", "", "description"), rows)


def _told(card: ModelCard) -> str:
    return ", ".join([card.task.name, *([] if _runs(card) else ["not run here"]), *_marks(card)])


def _marks(card: ModelCard) -> list[str]:
    marks = {"beta": card.beta, "LoRA": card.takes_lora, "tools": card.calls_functions, "deprecated": card.deprecated}
    return [mark for mark, borne in marks.items() if borne]


def _runs(card: ModelCard) -> bool:
    return card.task.name in TASKS
