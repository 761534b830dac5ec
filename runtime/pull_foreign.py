"""Makes an artifact of a decoder whose graph was made elsewhere: copied, tried out, and described in the manifest."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runtime.artifacts import DECODER, MANIFEST, TEMPLATE, TOKENIZER, Artifact, ArtifactStore, file_record
from runtime.build import Origin, Report, just_made, write_manifest
from runtime.build_encoder import EMBEDDING_TASKS, facts_of, try_encoder
from runtime.checkpoint_tokenizer import CheckpointTokenizer, load_tokenizer
from runtime.device import Device
from runtime.errors import ArtifactError
from runtime.foreign import CONFIG, GENAI_CONFIG, ForeignDecoder
from runtime.onnx_file import OnnxFile
from runtime.open_decoder import try_out

_BESIDE = (CONFIG, GENAI_CONFIG, "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json")
_READABLE = 0o644  # optimum writes weights that only their owner may read
_SPARE = 64 << 20  # bytes of disk to leave free
_BLOCK = 1 << 24  # bytes copied between two reports


def digest_files(paths: Iterable[Path], report: Report) -> str:
    """One sha256 over the names and the sha256 of files."""
    files = sorted(paths)
    total, done, digest = sum(path.stat().st_size for path in files), 0, hashlib.sha256()
    for path in files:
        report("checking sha256", done, total)
        size, record = file_record(path)
        digest.update(f"{path.name} {record}\n".encode())
        done += size
    return digest.hexdigest()


def source_files(decoder: ForeignDecoder) -> list[Path]:
    """The files that make up a foreign decoder: its graph, its weights, and what is said beside them."""
    folder = decoder.graph.parent
    beside = [place / name for place in (folder, folder.parent) for name in _BESIDE]
    data = [folder / name for name in decoder.file.data]
    if missing := [path.name for path in data if not path.is_file()]:
        raise ArtifactError(f"{decoder.graph.name} keeps weights in {missing[0]}, which isn't beside it")
    return [decoder.graph, *data, *(path for path in beside if path.is_file())]


def build_foreign(
    store: ArtifactStore, origin: Origin, decoder: ForeignDecoder, device: Device, report: Report, *, temporary: bool
) -> Artifact:
    """Make the artifact ``origin.key`` of ``decoder``. On any error, and on Ctrl-C, nothing is left behind.

    ``temporary``: the graph was made for this pull alone, and is moved rather than copied.
    """
    interface, windows, text = decoder.interface, decoder.missing_windows(), load_tokenizer(decoder.text_folder)
    if clash := sorted(set(decoder.file.data) & {DECODER, TOKENIZER, TEMPLATE, MANIFEST}):
        raise ArtifactError(f"the graph keeps weights in a file called {clash[0]}, which isn't allowed")
    if not temporary:
        _check_room(store, [decoder.graph, *(decoder.graph.parent / name for name in decoder.file.data)])
    try:
        with store.making(origin.key) as folder:
            _take(decoder, folder, report, move=temporary)
            if windows:
                OnnxFile(folder / DECODER).set_windows(windows)
            report("trying the graph out", 0, 0)
            try_out(folder / DECODER, interface, device)
            text.tokenizer.save(str(folder / TOKENIZER))
            if text.template:
                (folder / TEMPLATE).write_text(text.template, encoding="utf-8")
            write_manifest(folder, origin, report, **_facts(decoder, text))
    except OSError as error:
        raise ArtifactError(f"the artifact can't be written to {store.root}: {error}") from error
    return just_made(store, origin.key)


def keep_exported(
    store: ArtifactStore, origin: Origin, exported: Path, task: str, report: Report, checkpoint: Path
) -> Artifact:
    """Make an artifact of everything in the folder ``exported``, for a ``task`` other than text generation.

    ``checkpoint``: what it was exported of, beside whose files the exporter leaves some out.
    """
    graphs = sorted(exported.glob("*.onnx"))
    if not graphs:
        raise ArtifactError(f"optimum wrote no ONNX graph for {task}")
    with store.making(origin.key) as folder:
        for path in sorted(path for path in exported.iterdir() if path.is_file()):
            path.rename(folder / path.name).chmod(_READABLE)
        precision = OnnxFile(folder / graphs[0].name).precision()
        known: dict[str, Any] = {"stop_tokens": (), "bos_token": None, "eos_token": None}
        if task in EMBEDDING_TASKS:
            known["embedding"] = facts_of(folder / graphs[0].name, checkpoint)
            try_encoder(folder, known["embedding"])
        write_manifest(folder, origin, report, task=task, precision=precision, **known)
    return just_made(store, origin.key)


def _take(decoder: ForeignDecoder, folder: Path, report: Report, *, move: bool) -> None:
    """The graph as ``decoder.onnx``, and its weights under the names by which it knows them."""
    source, places = decoder.graph.parent, {decoder.graph.name: DECODER}
    places |= {name: name for name in decoder.file.data}
    total, done = sum((source / name).stat().st_size for name in places), 0
    for name, place in places.items():
        if move:
            (source / name).rename(folder / place).chmod(_READABLE)
            continue
        with (source / name).open("rb") as old, (folder / place).open("wb") as new:
            while piece := old.read(_BLOCK):
                report(f"copying {name}", done, total)
                new.write(piece)
                done += len(piece)


def _check_room(store: ArtifactStore, paths: list[Path]) -> None:
    needed = sum(path.stat().st_size for path in paths) + _SPARE
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free
    if free < needed:
        raise ArtifactError(f"{store.root} has {free / 1e9:.1f} GB free; the model takes {needed / 1e9:.1f}")


def _facts(decoder: ForeignDecoder, text: CheckpointTokenizer) -> dict[str, Any]:
    return {
        "precision": decoder.file.precision(),
        "interface": decoder.interface,
        "positions": decoder.context,
        "stop_tokens": tuple(sorted({*text.stop_tokens, *decoder.stop_tokens})),
        "bos_token": text.bos,
        "eos_token": text.eos,
    }
