"""``roost vectorize``: the indexes of the project in this folder, with the arguments of ``wrangler vectorize``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from worker.bindings.binding import BindingError
from worker.bindings.vectorize import BATCH, vectors_of
from worker.bindings.vectorize_file import METRICS, MISSING, BadIndex, Index, VectorIndexFile
from wrangler_compat.more_bindings import VECTORIZE, is_index_name
from wrangler_compat.one_line import one_line_errors
from wrangler_compat.project import STATE, open_project
from wrangler_compat.terminal import table


@click.group()
def vectorize() -> None:
    """Vectorize indexes of the Worker project in this folder."""


@vectorize.command()
@click.argument("name")
@click.option("--dimensions", type=int, required=True, help="How many numbers a vector has.")
@click.option("--metric", type=click.Choice(METRICS), required=True, help="How vectors are compared.")
@click.option("--description", default="", help="What the index is for.")
@one_line_errors
def create(name: str, dimensions: int, metric: str, description: str) -> None:
    """Make the index NAME."""
    if not is_index_name(name):
        raise click.ClickException(f"{name!r} is no name of an index: small letters, digits and -, 64 at most")
    try:
        VectorIndexFile(_folder(), name).create(dimensions, metric, description)
    except BadIndex as error:
        raise click.ClickException(str(error)) from error
    click.echo(f'[[vectorize]]\nbinding = "VECTORIZE"\nindex_name = "{name}"')


@vectorize.command("list")
@one_line_errors
def list_indexes() -> None:
    """List the indexes."""
    rows = []
    for path in sorted(_folder().glob("*.sqlite")):
        file = VectorIndexFile(path.parent, path.stem)
        if (index := file.index()) is not None:
            rows.append([path.stem, str(index.dimensions), index.metric, str(file.count())])
        file.close()
    table("", ["name", "dimensions", "metric", "vectors"], rows)


@vectorize.command()
@click.argument("name")
@one_line_errors
def get(name: str) -> None:
    """Print what the index NAME is, as JSON."""
    file, index = _there(name)
    told: dict[str, Any] = {"name": name, "description": index.description, "created_on": index.made}
    told["config"] = {"dimensions": index.dimensions, "metric": index.metric}
    click.echo(json.dumps(told | {"vectorCount": file.count()}, indent=2))
    file.close()


@vectorize.command()
@click.argument("name")
@one_line_errors
def delete(name: str) -> None:
    """Delete the index NAME and its vectors."""
    file, _ = _there(name)
    file.close()
    for end in ("", "-wal", "-shm"):
        Path(f"{file.path}{end}").unlink(missing_ok=True)


@vectorize.command()
@click.argument("name")
@click.option("--file", "source", type=click.Path(path_type=Path, exists=True), required=True, help="A line a vector.")
@one_line_errors
def insert(name: str, source: Path) -> None:
    """Put the vectors of a file into the index NAME: on each line id, values, and namespace and metadata if any."""
    file, index = _there(name)
    count = 0
    try:
        vectors = _lines(source)
        while lines := [*islice(vectors, BATCH)]:
            file.write(vectors_of(lines, index, source.name), over=False)
            count += len(lines)
    except BindingError as error:
        raise click.ClickException(str(error)) from error
    finally:
        file.close()
    click.echo(f"{count} vectors")


def _lines(source: Path) -> Iterator[Any]:
    with source.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise click.ClickException(f"{source.name}:{number}: {error}") from error


def _folder() -> Path:
    return open_project(Path.cwd()).home / STATE / "roost" / VECTORIZE


def _there(name: str) -> tuple[VectorIndexFile, Index]:
    file = VectorIndexFile(_folder(), name)
    if not is_index_name(name) or (index := file.index()) is None:
        raise click.ClickException(MISSING.format(name=name))
    return file, index
