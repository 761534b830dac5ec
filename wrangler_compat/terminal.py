"""What the command line shows: tables, and progress on the error stream. Knows no command."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, Task, TextColumn
from rich.table import Table
from rich.text import Text

from runtime.pull import Progress as Report

_SHORTENED = "description"  # the column that gives way to the others
_GAP, _LEAST, _WIDE = 2, 12, 130  # characters


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table that fits the terminal; cells wrap, and nothing in them is read as markup."""
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(as_table(title, columns, rows, console.width))


def as_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> Table:
    """The table that :func:`table` prints, for a terminal of ``width`` characters."""
    shown = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        shown.add_column(column, overflow="fold", no_wrap=place == 0)  # names get copied and pasted
    for row in _shortened(columns, list(rows), width):
        shown.add_row(*row)
    return shown


def is_narrow() -> bool:
    """Whether a table of names and descriptions would not fit."""
    return Console().width < _WIDE


def entries(listed: Iterable[tuple[str, str, str]]) -> None:
    """Print things one below the other: the name, and indented what there is to say, wrapped to the terminal."""
    console = Console(markup=False, highlight=False, emoji=False)
    for name, *rest in listed:
        console.print(name, style="bold", overflow="ignore", no_wrap=True, crop=False)  # names get copied and pasted
        for text in rest:
            console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _shortened(columns: Sequence[str], rows: list[Sequence[str]], width: int) -> list[list[str]]:
    """``rows`` with each description cut to the room that the other columns leave it."""
    widest = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    others = sum(size + _GAP for column, size in zip(columns, widest, strict=True) if column != _SHORTENED)
    room = max(width - others, _LEAST)
    return [
        [_cut(cell, room) if column == _SHORTENED else cell for column, cell in zip(columns, row, strict=True)]
        for row in rows
    ]


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


@contextmanager
def progress() -> Iterator[Report]:
    """A progress bar on the error stream, driven by the report this yields; plain lines where there is no terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _plain_lines(console)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), _Amount())
    with Progress(*columns, console=console, transient=True) as bar:
        yield functools.partial(_update, bar)


class _Amount(DownloadColumn):
    """How much of how much has arrived; nothing where that can't be told."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


def _update(bar: Progress, what: str, done: int, total: int) -> None:
    """Show one piece of work at a time: a new one replaces the one before."""
    shown = next(iter(bar.tasks), None)
    if shown is None or shown.description != what:
        if shown is not None:
            bar.remove_task(shown.id)
        bar.add_task(what, completed=done, total=total or None)
    else:
        bar.update(shown.id, completed=done, total=total or None)


def _plain_lines(console: Console) -> Report:
    """A line when the work changes and at every tenth of it."""
    last = ("", 0, 0)

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        tenth = 10 * done // total if total else 0
        if (what, total) != last[:2] or tenth > last[2]:
            last = (what, total, tenth)
            share = f" {done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else ""
            console.print(f"{what}{share}", markup=False)

    return report
