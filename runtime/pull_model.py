"""Gets a model's own weights: from a GGUF file, a checkpoint's folder, or the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime import hub
from runtime.artifacts import Artifact, ArtifactStore, artifact_key, file_record
from runtime.build import Ingredients, Origin, build, from_checkpoint, from_gguf
from runtime.device import Device
from runtime.errors import ArtifactError
from runtime.precision import STORED, PrecisionName, suitable_precision
from runtime.pull import Progress, is_stand_in_file, pull_stand_in, silent

Say = Callable[[str], None]
_FLOAT_TYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The catalogue name that weights are to answer for, in which precision (``None``: the one that suits).

    ``int8_kv``: whether the cache of keys and values is to be 8 bits wide.
    """

    model: str
    precision: PrecisionName | None = None
    device: Device = field(default_factory=Device)
    int8_kv: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    """Where to tell of progress, and of what was decided."""

    progress: Progress = silent
    say: Say = lambda _sentence: None


def pull_from(store: ArtifactStore, wanted: Wanted, source: Path, tell: Tell | None = None) -> Artifact:
    """The artifact of ``wanted`` from a GGUF file or a checkpoint's folder.

    The stand-in's own file stays the stand-in. Raises :class:`ArtifactError` with one sentence.
    """
    tell = tell or Tell()
    if source.is_dir():
        return _pull_folder(store, wanted, source, tell)
    if not source.is_file():
        raise ArtifactError(f"there is no file {source}")
    if is_stand_in_file(source):
        return _pull_stand_in(store, wanted, source, tell)
    tell.progress(f"reading {source.name}", 0, 0)
    digest = file_record(source)[1]
    if whole := _whole(store, wanted, lambda made: made.manifest.source_sha256 == digest, tell):
        return whole
    origin = Origin(artifact_key(wanted.model), source.stem, source.name, digest, answers=wanted.model)
    return _build(store, wanted, origin, from_gguf(source), tell)


def pull_from_hub(store: ArtifactStore, wanted: Wanted, repository: str, tell: Tell | None = None) -> Artifact:
    """The artifact of ``wanted`` from the hub's ``repository``; fetches only what is missing."""
    tell = tell or Tell()
    tell.progress(f"asking for {repository}", 0, 0)
    try:
        found = hub.listing(repository)
    except hub.Unreachable as error:
        return _pull_kept(store, wanted, repository, tell, error)
    if found and (whole := _whole(store, wanted, lambda made: made.manifest.source == found.source, tell)):
        return whole
    snapshot = hub.fetch(found, tell.progress) if found else hub.kept(repository)
    return _pull_snapshot(store, wanted, snapshot, tell)


def _pull_kept(store: ArtifactStore, wanted: Wanted, repository: str, tell: Tell, why: hub.Unreachable) -> Artifact:
    """What is here of ``repository``, for when the hub can't be asked whether there is something newer."""
    try:
        snapshot = hub.kept(repository)
        from_checkpoint(snapshot.folder)  # refuses a download that broke off
    except ArtifactError:
        same_repository = f"{repository}@"
        if whole := _whole(store, wanted, lambda made: made.manifest.source.startswith(same_repository), tell):
            tell.say(f"{why}: what an earlier pull made is used")
            return whole
        raise why from None
    tell.say(f"{why}: what is here is used")
    return _pull_snapshot(store, wanted, snapshot, tell)


def _pull_snapshot(store: ArtifactStore, wanted: Wanted, snapshot: hub.Snapshot, tell: Tell) -> Artifact:
    if whole := _whole(store, wanted, lambda made: made.manifest.source == snapshot.source, tell):
        return whole
    digest, repository = _digest(snapshot.folder, tell), snapshot.repository
    name, key = repository.rsplit("/", 1)[-1], artifact_key(wanted.model)
    origin = Origin(key, name, snapshot.source, digest, answers=wanted.model, license=snapshot.license)
    return _build(store, wanted, origin, from_checkpoint(snapshot.folder), tell)


def _pull_folder(store: ArtifactStore, wanted: Wanted, folder: Path, tell: Tell) -> Artifact:
    parts = from_checkpoint(folder)  # refuses a folder of other things before it is read whole
    digest = _digest(folder, tell)
    if whole := _whole(store, wanted, lambda made: made.manifest.source_sha256 == digest, tell):
        return whole
    name = folder.resolve().name
    return _build(store, wanted, Origin(artifact_key(wanted.model), name, name, digest, wanted.model), parts, tell)


def _pull_stand_in(store: ArtifactStore, wanted: Wanted, source: Path, tell: Tell) -> Artifact:
    """The stand-in from its own file, which isn't rounded anew and never passes for another model."""
    if wanted.precision is not None or wanted.int8_kv:
        raise ArtifactError(f"{source.name} is the stand-in's own file, kept as it is: leave out --precision and --kv")
    tell.say(f"{source.name} is the stand-in's own file: it answers where a model has no weights, {wanted.model} too")
    return pull_stand_in(store, source, tell.progress)


def _whole(store: ArtifactStore, wanted: Wanted, same: Callable[[Artifact], bool], tell: Tell) -> Artifact | None:
    """What an earlier pull made of the same source in the same precision; said aloud where none was asked for."""
    try:
        made = store.find(artifact_key(wanted.model))
    except ArtifactError:
        return None  # damaged: make it anew
    if made is None or not same(made) or (made.manifest.kv == "int8") != wanted.int8_kv:
        return None
    if wanted.precision is None:
        tell.say(f"{made.manifest.described} is here already (--precision makes another)")
        return made
    return made if wanted.precision == made.manifest.precision else None


def _build(store: ArtifactStore, wanted: Wanted, origin: Origin, parts: Ingredients, tell: Tell) -> Artifact:
    precision = wanted.precision
    if precision is None and parts.stored_as not in _FLOAT_TYPES:
        precision = STORED
    if precision is None:
        precision, reason = suitable_precision(parts.weights.shape, wanted.device)
        tell.say(f"{precision}: {reason} (--precision chooses another)")
    if precision == "fp16" and wanted.device.kind == "cpu":
        tell.say("fp16 is for CUDA: a CPU computes it as float32, in twice the memory")
    return build(store, replace(origin, int8_kv=wanted.int8_kv), parts, precision, tell.progress)


def _digest(folder: Path, tell: Tell) -> str:
    """One sha256 over the names and the sha256 of a checkpoint's files."""
    files = sorted(
        path for pattern in ("*.safetensors", "*.json", "*.jinja", "*.model") for path in folder.glob(pattern)
    )
    total, done, digest = sum(path.stat().st_size for path in files), 0, hashlib.sha256()
    for path in files:
        tell.progress("checking sha256", done, total)
        size, record = file_record(path)
        digest.update(f"{path.name} {record}\n".encode())
        done += size
    return digest.hexdigest()
