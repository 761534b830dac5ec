"""Builds an artifact from a GGUF file or a checkpoint's folder: tensors are read, rounded and written one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from runtime.artifacts import (
    BUILDER_VERSION,
    DECODER,
    MANIFEST,
    TEMPLATE,
    TEXT_GENERATION,
    TOKENIZER,
    Artifact,
    ArtifactStore,
    Exporter,
    Manifest,
    file_record,
)
from runtime.checkpoint_tokenizer import load_tokenizer
from runtime.checkpoint_weights import CheckpointWeights
from runtime.decoder_graph import DecoderWeights, write_decoder
from runtime.device import Device
from runtime.errors import ArtifactError, Refused
from runtime.estimate import disk_bytes, parameters
from runtime.gguf_tokenizer import build_tokenizer, stop_tokens
from runtime.gguf_weights import GgufWeights
from runtime.kv_quantization import calibrate, calibration_text, quantise_cache
from runtime.linear_graph import Precision
from runtime.precision import STORED, PrecisionName, computes
from runtime.quantized_weights import QuantizedWeights
from runtime.shape import misstatements

Report = Callable[[str, int, int], None]
_SPARE = 64 << 20  # bytes of disk to leave free


@dataclass(frozen=True, slots=True)
class Origin:
    """Where weights came from and for what: ``answers`` is a catalogue name, ``None`` for the stand-in.

    ``int8_kv``: the cache of keys and values is to be 8 bits wide. ``exporter``: who made the graph. ``device``: what
    it is to compute on.
    """

    key: str
    weights: str
    source: str
    source_sha256: str
    answers: str | None
    stand_in: bool = False
    license: str = "not stated"
    int8_kv: bool = False
    exporter: Exporter = "roost"
    device: Device = field(default_factory=Device)


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What an artifact is made of. ``stored_as``: the type that most of the source's weights have."""

    weights: DecoderWeights
    stored_as: str
    tokenizer: Tokenizer
    template: str | None
    bos: str | None
    eos: str | None
    stop_tokens: tuple[int, ...]
    license: str | None = None


def from_gguf(path: Path) -> Ingredients:
    """What the GGUF file ``path`` holds. Raises :class:`ArtifactError` for what can't be served."""
    with misstatements(path.name):
        return _from_gguf(path)


def _from_gguf(path: Path) -> Ingredients:
    weights = GgufWeights(path)
    metadata = weights.metadata

    def token(name: str) -> str | None:
        id_ = metadata(f"tokenizer.ggml.{name}_token_id")
        return None if id_ is None else str(metadata("tokenizer.ggml.tokens")[id_])

    return Ingredients(
        weights,
        weights.precision(),
        build_tokenizer(metadata),
        metadata("tokenizer.chat_template"),
        bos=token("bos") if metadata("tokenizer.ggml.add_bos_token") else None,
        eos=token("eos"),
        stop_tokens=tuple(stop_tokens(metadata)),
        license=metadata("general.license"),
    )


def from_checkpoint(folder: Path) -> Ingredients:
    """What the Hugging Face checkpoint in ``folder`` holds. Raises :class:`ArtifactError` for what can't be served."""
    with misstatements(f"{folder.name}'s configuration"):
        weights, text = CheckpointWeights(folder), load_tokenizer(folder)
    stops = tuple(text.stop_tokens)
    return Ingredients(weights, weights.precision(), text.tokenizer, text.template, text.bos, text.eos, stops)


def build(
    store: ArtifactStore, origin: Origin, parts: Ingredients, precision: PrecisionName, report: Report
) -> Artifact:
    """Make the artifact ``origin.key`` of ``parts``. On any error, and on Ctrl-C, nothing is left behind."""
    graph = computes(precision, origin.device)
    _check_room(store, parts, precision, graph)
    try:
        with store.making(origin.key) as folder:
            _write_graph(folder / DECODER, parts, precision, graph, report)
            if origin.int8_kv:
                report("calibrating the KV cache", 0, 0)
                tokens = parts.tokenizer.encode(calibration_text(), add_special_tokens=False).ids
                quantise_cache(folder / DECODER, calibrate(folder / DECODER, tokens[: parts.weights.shape.context]))
            parts.tokenizer.save(str(folder / TOKENIZER))
            if parts.template:
                (folder / TEMPLATE).write_text(parts.template, encoding="utf-8")
            licensed = replace(origin, license=parts.license or origin.license)
            write_manifest(folder, licensed, report, **_facts(parts, precision, graph))
    except OSError as error:
        raise ArtifactError(f"the artifact can't be written to {store.root}: {error}") from error
    except FloatingPointError as error:
        raise ArtifactError(f"a weight is too large for {precision}: choose another --precision") from error
    return just_made(store, origin.key)


def write_manifest(folder: Path, origin: Origin, report: Report, **facts: Any) -> None:
    """Describe what ``folder`` holds; ``facts`` are the manifest's fields that don't follow from ``origin``."""
    report("checking sha256", 0, 0)
    with misstatements(origin.weights):
        manifest = _manifest(folder, origin, facts)
    if manifest.task == TEXT_GENERATION:
        _check_text(Artifact(folder, manifest))
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")


def _manifest(folder: Path, origin: Origin, facts: dict[str, Any]) -> Manifest:
    return Manifest(
        builder=BUILDER_VERSION,
        weights=origin.weights,
        kv="int8" if origin.int8_kv else "float",
        stand_in=origin.stand_in,
        answers=origin.answers,
        source=origin.source,
        source_sha256=origin.source_sha256,
        license=origin.license,
        exporter=origin.exporter,
        files={path.name: file_record(path) for path in sorted(folder.iterdir())},
        **facts,
    )


def just_made(store: ArtifactStore, key: str) -> Artifact:
    """The artifact that was built a moment ago."""
    built = store.find(key)
    if built is None:
        raise ArtifactError(f"the artifact {key} vanished while it was built")
    return built


def _check_text(made: Artifact) -> None:
    """Refuse a tokenizer or a template that answers nobody, before it takes the place of one that does."""
    try:
        made.tokenizer().encode_chat([{"role": "user", "content": "Hello"}])
    except Refused as error:
        raise ArtifactError(f"the model's tokenizer and template refuse a plain question: {error}") from error
    except ArtifactError as error:
        raise ArtifactError(f"the model's text can't be served: {error.__cause__ or error}") from error


def _write_graph(path: Path, parts: Ingredients, precision: PrecisionName, graph: Precision, report: Report) -> None:
    shape, done = parts.weights.shape, 0
    size, of_parameters = disk_bytes(shape, precision, half=graph.half), parameters(shape)
    what = f"writing {parts.stored_as if precision == STORED else precision} weights"
    report(what, 0, size)

    def counted(more: int) -> None:
        nonlocal done
        done = min(done + more, of_parameters)
        report(what, done * size // of_parameters, size)

    write_decoder(path, QuantizedWeights(parts.weights, precision, counted), graph)


def _check_room(store: ArtifactStore, parts: Ingredients, precision: PrecisionName, graph: Precision) -> None:
    """Refuse before hours of work what can't be kept."""
    needed = disk_bytes(parts.weights.shape, precision, half=graph.half) + _SPARE
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free
    if free < needed:
        raise ArtifactError(
            f"{store.root} has {free / 1e9:.1f} GB free; in {precision} the model takes {needed / 1e9:.1f}"
        )


def _facts(parts: Ingredients, precision: PrecisionName, graph: Precision) -> dict[str, Any]:
    return {
        "precision": parts.stored_as if precision == STORED else precision,
        "activations": "float16" if graph.half else "float32",
        "shape": parts.weights.shape,
        "stop_tokens": parts.stop_tokens,
        "bos_token": parts.bos,
        "eos_token": parts.eos,
    }
