"""Makes artifacts that embed texts: of a checkpoint, tensor by tensor, or of a graph that was made elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from runtime.artifacts import ENCODER, TEXT_EMBEDDINGS, TOKENIZER, Artifact, ArtifactStore
from runtime.build import Origin, Report, just_made, write_manifest
from runtime.checkpoint_tokenizer import load_tokenizer
from runtime.config import EmbeddingFacts, EncoderShape
from runtime.device import memory_share
from runtime.encoder_config import CONFIG, read_sentences, read_shape
from runtime.encoder_graph import HIDDEN, IDS, LENGTHS, write_encoder
from runtime.encoder_session import FED, EncoderSession, Row
from runtime.encoder_weights import EncoderWeights
from runtime.errors import ArtifactError
from runtime.json_file import json_object
from runtime.onnx_file import OnnxFile
from runtime.shape import misstatements

EMBEDDING_TASKS = (TEXT_EMBEDDINGS, "sentence-similarity")
"""optimum's names for graphs that give a vector for each token."""
EncoderPrecision: TypeAlias = Literal["fp32", "int8"]
_SHARE = 0.25  # of the memory that float32 weights may take before 8 bits are chosen
_UNSTATED = 512  # tokens of a text, where a graph made elsewhere comes without a configuration
_SPARE = 64 << 20  # bytes of disk to leave free
_TRIED = (5, 3, 2)
_KNOWN: dict[str, Any] = {"stop_tokens": (), "bos_token": None, "eos_token": None, "task": TEXT_EMBEDDINGS}


def check_encoder(folder: Path) -> None:
    """Raise :class:`ArtifactError` for a checkpoint that is no whole encoder."""
    with misstatements(f"{folder.name}'s configuration"):
        EncoderWeights(folder)
        read_sentences(folder)
        load_tokenizer(folder)


def suitable_encoder_precision(folder: Path, asked: str | None) -> tuple[EncoderPrecision, str]:
    """The precision to build in, and why; :class:`ArtifactError` for one that isn't served."""
    if asked is not None and asked not in ("fp32", "int8"):
        raise ArtifactError(f"what embeds texts runs on the CPU, in fp32 or int8, not {asked}")
    size, room = 4 * _parameters(read_shape(folder)[0]), memory_share(_SHARE)
    if asked == "fp32" or (asked is None and size <= room):
        return "fp32", f"{size / 1e9:.2f} GB in full precision fit this machine"
    return "int8", f"{size / 1e9:.2f} GB in full precision are much for this machine"


def build_encoder(
    store: ArtifactStore, origin: Origin, folder: Path, precision: EncoderPrecision, report: Report
) -> Artifact:
    """Make the artifact ``origin.key`` of the checkpoint in ``folder``. On any error nothing is left behind.

    A stand-in reads as much as its table of positions holds, for other models' cards promise that.
    """
    with misstatements(f"{folder.name}'s configuration"):
        weights, sentences, text = EncoderWeights(folder), read_sentences(folder), load_tokenizer(folder)
    shape = weights.shape
    longest = shape.context if origin.stand_in else min(sentences.longest or shape.context, shape.context)
    inputs = (IDS, LENGTHS)
    facts = EmbeddingFacts(ENCODER, inputs, HIDDEN, shape.hidden, longest, sentences.pooling, sentences.normalised)
    size = _parameters(shape) * (4 if precision == "fp32" else 1.125)
    _check_room(store, int(size))
    try:
        with store.making(origin.key) as made:
            report(f"writing {precision} weights", 0, 0)
            write_encoder(made / ENCODER, weights, eight_bits=precision == "int8")
            text.tokenizer.save(str(made / TOKENIZER))
            _finish(made, origin, report, facts, precision)
    except OSError as error:
        raise ArtifactError(f"the artifact can't be written to {store.root}: {error}") from error
    return just_made(store, origin.key)


def keep_encoder(store: ArtifactStore, origin: Origin, graph: Path, report: Report) -> Artifact:
    """Make the artifact ``origin.key`` of a graph that was made elsewhere, and is copied as it is."""
    file = OnnxFile(graph)
    described = graph.parent if (graph.parent / CONFIG).exists() else graph.parent.parent
    with misstatements(f"{graph.name}'s configuration"):
        facts, text = facts_of(graph, described), load_tokenizer(described)
    data = [graph.parent / name for name in file.data]
    if missing := [path.name for path in data if not path.is_file()]:
        raise ArtifactError(f"{graph.name} keeps weights in {missing[0]}, which isn't beside it")
    _check_room(store, sum(path.stat().st_size for path in (graph, *data)))
    try:
        with store.making(origin.key) as made:
            for path in (graph, *data):
                report(f"copying {path.name}", 0, 0)
                shutil.copyfile(path, made / path.name)
            text.tokenizer.save(str(made / TOKENIZER))
            _finish(made, origin, report, facts, file.precision())
    except OSError as error:
        raise ArtifactError(f"the artifact can't be written to {store.root}: {error}") from error
    return just_made(store, origin.key)


def facts_of(graph: Path, folder: Path) -> EmbeddingFacts:
    """How ``graph`` is fed and what it gives; ``folder`` has the configuration of its model.

    Raises :class:`ArtifactError` for a graph that doesn't give one vector for each token.
    """
    file = OnnxFile(graph)
    inputs, outputs = file.inputs(), file.outputs()
    if strangers := sorted({entry.name for entry in inputs} - {*FED}):
        raise ArtifactError(f"{graph.name} has an input that isn't served for embeddings: {strangers[0]}")
    found = next((entry for entry in outputs if len(entry.shape) == 3), None)
    if found is None:
        raise ArtifactError(f"{graph.name} gives no vector for each token: export it for {TEXT_EMBEDDINGS}")
    stated, sentences = json_object(folder / CONFIG), read_sentences(folder)
    width = found.shape[2] if isinstance(found.shape[2], int) else stated.get("hidden_size") or stated.get("dim")
    if not isinstance(width, int):
        raise ArtifactError(f"neither {graph.name} nor a {CONFIG} says how long its vectors are")
    positions = int(stated.get("max_position_embeddings", _UNSTATED))
    if "roberta" in str(stated.get("model_type", "")):
        positions -= int(stated.get("pad_token_id", 1)) + 1
    longest = min(sentences.longest or positions, positions)
    names = tuple(entry.name for entry in inputs)
    return EmbeddingFacts(graph.name, names, found.name, width, longest, sentences.pooling, sentences.normalised)


def try_encoder(folder: Path, facts: EmbeddingFacts) -> None:
    """Run the graph in ``folder`` a little; :class:`ArtifactError` unless a text gives the same beside a longer one."""
    rows = [Row(_TRIED, facts.pooling), Row((*_TRIED, *_TRIED), facts.pooling)]
    session = EncoderSession(folder / facts.graph, facts)
    try:
        together, alone = session.run(rows)[0], session.run(rows[:1])[0]
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ArtifactError(f"ONNX Runtime can't run {facts.graph}: {str(error).splitlines()[0]}") from error
    finally:
        session.close()
    if together.shape != (facts.dimensions,) or not np.isfinite(together).all():
        raise ArtifactError(f"{facts.graph} doesn't give vectors of {facts.dimensions} numbers")
    if not np.allclose(together, alone, rtol=0, atol=0.05 * float(np.abs(alone).max())):
        raise ArtifactError(f"{facts.graph} gives a text another vector beside a longer one, and can't be served")


def _finish(made: Path, origin: Origin, report: Report, facts: EmbeddingFacts, precision: str) -> None:
    report("trying the graph out", 0, 0)
    try_encoder(made, facts)
    write_manifest(made, origin, report, precision=precision, activations="float32", embedding=facts, **_KNOWN)


def _parameters(shape: EncoderShape) -> int:
    tables = shape.vocab + shape.context + shape.types
    return shape.hidden * (tables + shape.layers * (4 * shape.hidden + 2 * shape.ffn))


def _check_room(store: ArtifactStore, size: int) -> None:
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free
    if free < size + _SPARE:
        raise ArtifactError(f"{store.root} has {free / 1e9:.1f} GB free; the model takes {size / 1e9:.1f}")
