"""Gets a model's own weights: from a GGUF file, a checkpoint's folder, an ONNX graph, or the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime import hub
from runtime.artifacts import (
    TEXT_EMBEDDINGS,
    TEXT_GENERATION,
    Artifact,
    ArtifactStore,
    Exporter,
    artifact_key,
    file_record,
)
from runtime.build import Ingredients, Origin, build, from_checkpoint, from_gguf
from runtime.build_encoder import build_encoder, check_encoder, keep_encoder, suitable_encoder_precision
from runtime.device import Device
from runtime.errors import ArtifactError
from runtime.exporter import Dtype, exported
from runtime.foreign import CONFIG, SUBFOLDER, ForeignDecoder, find_graph, is_foreign
from runtime.precision import STORED, PrecisionName, suitable_precision
from runtime.pull import WAITING, Progress, pull_stand_in, silent, stand_in_of
from runtime.pull_foreign import build_foreign, digest_files, keep_exported, source_files
from runtime.shape import misstatements
from runtime.stand_in import StandIn

Say = Callable[[str], None]
_FLOAT_TYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The catalogue name that weights are to answer for, in which precision (``None``: the one that suits).

    ``int8_kv``: whether the cache of keys and values is to be 8 bits wide. ``exporter``: who makes the graph of a
    checkpoint. ``task``: what for, by optimum's name.
    """

    model: str
    precision: PrecisionName | None = None
    device: Device = field(default_factory=Device)
    int8_kv: bool = False
    exporter: Exporter = "roost"
    task: str = TEXT_GENERATION


@dataclass(frozen=True, slots=True)
class Tell:
    """Where to tell of progress, and of what was decided."""

    progress: Progress = silent
    say: Say = lambda _sentence: None


def pull_from(store: ArtifactStore, wanted: Wanted, source: Path, tell: Tell | None = None) -> Artifact:
    """The artifact of ``wanted`` from a GGUF file, a checkpoint's folder, or an ONNX graph or its folder.

    The stand-in's own file stays the stand-in. Raises :class:`ArtifactError` with one sentence.
    """
    tell = tell or Tell()
    with store.pulling(artifact_key(wanted.model), lambda: tell.say(WAITING)):
        return _pull_from(store, wanted, source, tell)


def _pull_from(store: ArtifactStore, wanted: Wanted, source: Path, tell: Tell) -> Artifact:
    if source.is_dir() or source.suffix == ".onnx":
        folder = (source if source.is_dir() else source.parent).resolve()
        name = folder.parent.name if folder.name == SUBFOLDER else folder.name
        return _pull_folder(
            store, wanted, source, Origin(artifact_key(wanted.model), name, name, "", wanted.model), tell
        )
    if not source.is_file():
        raise ArtifactError(f"there is no file {source}")
    if stand_in := stand_in_of(source):
        return _pull_stand_in(store, wanted, stand_in, source, tell)
    if wanted.exporter == "optimum":
        raise ArtifactError("--exporter optimum takes a checkpoint, not a GGUF file")
    if wanted.task == TEXT_EMBEDDINGS:
        raise ArtifactError(f"embeddings are made of a checkpoint's folder or an ONNX graph, not of {source.name}")
    tell.progress(f"reading {source.name}", 0, 0)
    digest = file_record(source)[1]
    if whole := _whole(store, wanted, lambda made: made.manifest.source_sha256 == digest, tell):
        return whole
    origin = Origin(artifact_key(wanted.model), source.stem, source.name, digest, answers=wanted.model)
    return _build(store, wanted, origin, from_gguf(source), tell)


def pull_from_hub(store: ArtifactStore, wanted: Wanted, repository: str, tell: Tell | None = None) -> Artifact:
    """The artifact of ``wanted`` from the hub's ``repository``; fetches only what is missing."""
    tell = tell or Tell()
    with store.pulling(artifact_key(wanted.model), lambda: tell.say(WAITING)):
        return _pull_from_hub(store, wanted, repository, tell)


def _pull_from_hub(store: ArtifactStore, wanted: Wanted, repository: str, tell: Tell) -> Artifact:
    tell.progress(f"asking for {repository}", 0, 0)
    try:
        found = hub.listing(repository)
    except hub.Unreachable as error:
        return _pull_kept(store, wanted, repository, tell, error)
    if found is None:
        return _pull_kept(store, wanted, repository, tell, None)
    if whole := _whole(store, wanted, lambda made: made.manifest.source == found.source, tell):
        return whole
    return _pull_snapshot(store, wanted, hub.fetch(found, tell.progress, precision=wanted.precision), tell)


def _pull_kept(
    store: ArtifactStore, wanted: Wanted, repository: str, tell: Tell, why: hub.Unreachable | None
) -> Artifact:
    """What is here of ``repository``, for when the hub can't, or (``None``) may not, be asked for something newer."""
    reason = why or "huggingface_hub is told to stay offline"
    try:
        snapshot = hub.kept(repository)
        if not is_foreign(snapshot.folder):
            # Both refuse a download that broke off.
            (check_encoder if wanted.task == TEXT_EMBEDDINGS else from_checkpoint)(snapshot.folder)
    except ArtifactError as missing:
        same_repository = f"{repository}@"
        if whole := _whole(store, wanted, lambda made: made.manifest.source.startswith(same_repository), tell):
            tell.say(f"{reason}: what an earlier pull made is used")
            return whole
        raise why or missing from None
    tell.say(f"{reason}: what is here is used")
    return _pull_snapshot(store, wanted, snapshot, tell)


def _pull_snapshot(store: ArtifactStore, wanted: Wanted, snapshot: hub.Snapshot, tell: Tell) -> Artifact:
    if whole := _whole(store, wanted, lambda made: made.manifest.source == snapshot.source, tell):
        return whole
    key, name = artifact_key(wanted.model), snapshot.repository.rsplit("/", 1)[-1]
    origin = Origin(key, name, snapshot.source, "", answers=wanted.model, license=snapshot.license)
    return _pull_folder(store, wanted, snapshot.graph or snapshot.folder, origin, tell)


def _pull_folder(store: ArtifactStore, wanted: Wanted, source: Path, origin: Origin, tell: Tell) -> Artifact:
    """From a checkpoint's folder, or from an ONNX graph or its folder. ``origin`` still lacks the digest."""
    if wanted.task == TEXT_EMBEDDINGS and wanted.exporter == "roost":
        return _pull_encoder(store, wanted, source, origin, tell)
    if source.is_file() or is_foreign(source):
        return _pull_graph(store, wanted, ForeignDecoder(find_graph(source, wanted.precision)), origin, tell)
    parts = None if wanted.exporter == "optimum" else from_checkpoint(source)  # refuses other things before all is read
    digest = _digest(source, tell)
    if whole := _whole(store, wanted, lambda made: made.manifest.source_sha256 == digest, tell):
        return whole
    origin = replace(origin, source_sha256=digest)
    if parts is None:
        return _pull_exported(store, wanted, source, replace(origin, exporter="optimum"), tell)
    return _build(store, wanted, origin, parts, tell)


def _pull_graph(
    store: ArtifactStore, wanted: Wanted, decoder: ForeignDecoder, origin: Origin, tell: Tell, *, own: bool = False
) -> Artifact:
    """``own``: the graph was made for this pull, and may be moved."""
    with misstatements(f"{decoder.graph.name}'s configuration"):
        decoder.check()
    if not own and wanted.exporter == "optimum":
        raise ArtifactError(f"{decoder.graph.name} is an ONNX graph already: leave --exporter out")
    if wanted.int8_kv:
        raise ArtifactError("--kv int8 is for graphs that roost builds, not for those made elsewhere")
    has = decoder.file.precision()
    if wanted.precision not in (None, has):
        raise ArtifactError(f"{decoder.graph.name} is in {has}, and can't be had in {wanted.precision}")
    if not own:
        digest = digest_files(source_files(decoder), tell.progress)
        origin = replace(origin, exporter="elsewhere", source_sha256=digest)
        if whole := _whole(store, wanted, lambda made: made.manifest.source_sha256 == digest, tell):
            return whole
    tell.say(f"{decoder.graph.name} ({has}), made {'by optimum' if own else 'elsewhere'}")
    return build_foreign(store, origin, decoder, wanted.device, tell.progress, temporary=own)


def _pull_exported(store: ArtifactStore, wanted: Wanted, checkpoint: Path, origin: Origin, tell: Tell) -> Artifact:
    """From what optimum makes of ``checkpoint``."""
    if wanted.precision not in (None, "fp32", "fp16"):
        raise ArtifactError(f"--exporter optimum writes fp32 or fp16, not {wanted.precision}")
    halved = wanted.device.kind == "cuda" if wanted.precision is None else wanted.precision == "fp16"
    dtype: Dtype = "fp16" if halved else "fp32"
    with exported(store.root, checkpoint, wanted.task, dtype, tell.progress, tell.say) as folder:
        if wanted.task == TEXT_GENERATION:
            decoder = ForeignDecoder(folder / "model.onnx")
            return _pull_graph(store, replace(wanted, precision=None), decoder, origin, tell, own=True)
        return keep_exported(store, origin, folder, wanted.task, tell.progress, checkpoint)


def _pull_encoder(store: ArtifactStore, wanted: Wanted, source: Path, origin: Origin, tell: Tell) -> Artifact:
    """What embeds texts: built of a checkpoint, or a graph as it is. It runs on the CPU."""
    if wanted.int8_kv:
        raise ArtifactError("--kv int8 is for text generation: what embeds texts has no cache")
    wanted = replace(wanted, device=Device())
    if source.is_file() or is_foreign(source):
        graph = find_graph(source, wanted.precision)
        digest = digest_files([graph, *graph.parent.glob(f"{graph.name}*data")], tell.progress)
        origin = replace(origin, exporter="elsewhere", source_sha256=digest)
        if whole := _whole(store, wanted, lambda made: made.manifest.source_sha256 == digest, tell):
            return whole
        return keep_encoder(store, origin, graph, tell.progress)
    check_encoder(source)
    digest = _digest(source, tell)
    if whole := _whole(store, wanted, lambda made: made.manifest.source_sha256 == digest, tell):
        return whole
    precision, reason = suitable_encoder_precision(source, wanted.precision)
    if wanted.precision is None:
        tell.say(f"{precision}: {reason} (--precision chooses another)")
    return build_encoder(store, replace(origin, source_sha256=digest), source, precision, tell.progress)


def _pull_stand_in(store: ArtifactStore, wanted: Wanted, stand_in: StandIn, source: Path, tell: Tell) -> Artifact:
    """The stand-in from its own file, which isn't rounded anew and never passes for another model."""
    if wanted.precision is not None or wanted.int8_kv:
        raise ArtifactError(f"{source.name} is the stand-in's own file, kept as it is: leave out --precision and --kv")
    tell.say(f"{source.name} is the stand-in's own file: it answers where a model has no weights, {wanted.model} too")
    return pull_stand_in(store, source, tell.progress, wanted.device, stand_in)


def _whole(store: ArtifactStore, wanted: Wanted, same: Callable[[Artifact], bool], tell: Tell) -> Artifact | None:
    """What an earlier pull made of the same source in the same precision; said aloud where none was asked for."""
    try:
        made = store.find(artifact_key(wanted.model))
    except ArtifactError:
        return None  # damaged: make it anew
    if made is None or not same(made) or (made.manifest.kv == "int8") != wanted.int8_kv:
        return None
    exported = made.manifest.exporter == "optimum"
    if (exported, made.manifest.task) != (wanted.exporter == "optimum", wanted.task):
        return None
    if wanted.task == TEXT_EMBEDDINGS and made.manifest.embedding is None:
        return None  # exported before embeddings were served
    for_cuda = wanted.device.kind == "cuda" or made.manifest.precision == "fp16"
    if made.manifest.exporter == "roost" and made.manifest.half != for_cuda:
        return None  # the other device's graph
    if wanted.precision is None:
        tell.say(f"{made.manifest.described} is here already (--precision makes another)")
        return made
    return made if wanted.precision == made.manifest.precision else None


def _build(store: ArtifactStore, wanted: Wanted, origin: Origin, parts: Ingredients, tell: Tell) -> Artifact:
    precision = wanted.precision
    if parts.stored_as not in _FLOAT_TYPES:
        if precision in ("int4", "int8"):
            raise ArtifactError(
                f"{origin.source} holds {parts.stored_as} blocks, which stay as they are: "
                "leave --precision out, or take fp16 or fp32"
            )
        precision = precision or STORED
    if precision is None:
        precision, reason = suitable_precision(parts.weights.shape, wanted.device)
        tell.say(f"{precision}: {reason} (--precision chooses another)")
    if precision == "fp16" and wanted.device.kind == "cpu":
        tell.say("fp16 is for CUDA: a CPU computes it as float32, in twice the memory")
    return build(store, replace(origin, int8_kv=wanted.int8_kv, device=wanted.device), parts, precision, tell.progress)


def _digest(folder: Path, tell: Tell) -> str:
    """One sha256 over the names and the sha256 of a checkpoint's files."""
    patterns = ("*.safetensors", "*.json", "*.jinja", "*.model", f"1_Pooling/{CONFIG}")
    return digest_files((path for pattern in patterns for path in folder.glob(pattern)), tell.progress)
