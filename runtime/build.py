"""Builds an artifact from a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.artifacts import (
    BUILDER_VERSION,
    DECODER,
    MANIFEST,
    TEMPLATE,
    TOKENIZER,
    Artifact,
    ArtifactStore,
    Manifest,
    file_record,
)
from runtime.decoder_graph import write_decoder
from runtime.errors import ArtifactError
from runtime.gguf_tokenizer import build_tokenizer, stop_tokens
from runtime.gguf_weights import GgufWeights


@dataclass(frozen=True, slots=True)
class Origin:
    """Where weights came from and for what: ``answers`` is a catalogue name, ``None`` for the stand-in."""

    key: str
    weights: str
    source: str
    source_sha256: str
    answers: str | None
    stand_in: bool = False


def build_from_gguf(store: ArtifactStore, path: Path, origin: Origin) -> Artifact:
    """Convert ``path`` into the artifact ``origin.key``. On any error nothing is left behind."""
    weights = GgufWeights(path)
    try:
        with store.making(origin.key) as folder:
            write_decoder(folder / DECODER, weights)
            build_tokenizer(weights.metadata).save(str(folder / TOKENIZER))
            if template := weights.metadata("tokenizer.chat_template"):
                (folder / TEMPLATE).write_text(template, encoding="utf-8")
            manifest = _manifest(weights, origin, folder)
            (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"the artifact can't be written to {store.root}: {error}") from error
    built = store.find(origin.key)
    if built is None:
        raise ArtifactError(f"the artifact {origin.key} vanished while it was built")
    return built


def _manifest(weights: GgufWeights, origin: Origin, folder: Path) -> Manifest:
    return Manifest(
        builder=BUILDER_VERSION,
        weights=origin.weights,
        precision=weights.precision(),
        stand_in=origin.stand_in,
        answers=origin.answers,
        source=origin.source,
        source_sha256=origin.source_sha256,
        license=str(weights.metadata("general.license", "not stated")),
        shape=weights.shape,
        stop_tokens=tuple(stop_tokens(weights.metadata)),
        bos_token=_token(weights.metadata, "bos") if weights.metadata("tokenizer.ggml.add_bos_token") else None,
        eos_token=_token(weights.metadata, "eos"),
        files={path.name: file_record(path) for path in sorted(folder.iterdir())},
    )


def _token(metadata: Any, name: str) -> str | None:
    id_ = metadata(f"tokenizer.ggml.{name}_token_id")
    return None if id_ is None else str(metadata("tokenizer.ggml.tokens")[id_])
