"""Artifacts: the folders in the user's cache that hold a model's graph, tokenizer, template and manifest.

A folder is made under a lock in a temporary place and renamed when whole, so an artifact is there or it isn't.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer

from runtime.chat_template import ChatTemplate
from runtime.config import DecoderShape, EmbeddingFacts
from runtime.errors import ArtifactError
from runtime.graph_interface import GraphInterface
from runtime.tokenizer import ChatTokenizer

DECODER, TOKENIZER, TEMPLATE, MANIFEST = (
    "decoder.onnx",
    "tokenizer.json",
    "chat_template.jinja",
    "manifest.json",
)
TEXT_GENERATION, TEXT_EMBEDDINGS = "text-generation", "feature-extraction"
"""Tasks of artifacts, by the names that optimum has for them."""
ENCODER = "encoder.onnx"
Exporter = Literal["roost", "optimum", "elsewhere"]
BUILDER_VERSION = 1
"""Raised whenever what is built changes, so that artifacts of an older builder are built anew."""

_READ = 1 << 20  # bytes hashed or copied at a time
_PARTIAL, _REPLACED = ".partial", ".replaced"
_KEY = re.compile(r"[A-Za-z0-9@_+-][A-Za-z0-9@._+-]*")


class Manifest(BaseModel):
    """What an artifact is and where it came from. ``answers``: the catalogue name it was pulled for. ``kv``: its cache.

    ``activations``: what flows between the graph's nodes; CUDA computes float16 alone. ``exporter``: who made the
    graph. Our own decoders have a ``shape``, foreign ones an ``interface`` and the ``positions`` that they admit,
    encoders ``embedding``, models for another ``task`` none of these. ``files``: the size in bytes and the sha256 of
    each file beside the manifest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    builder: int
    weights: str
    precision: str
    kv: Literal["float", "int8"] = "float"
    activations: Literal["float32", "float16"] | None = None  # none: built before this was recorded
    stand_in: bool
    answers: str | None
    source: str
    source_sha256: str
    license: str
    task: str = TEXT_GENERATION
    exporter: Exporter = "roost"
    shape: DecoderShape | None = None
    interface: GraphInterface | None = None
    positions: int = 0
    embedding: EmbeddingFacts | None = None
    stop_tokens: tuple[int, ...]
    bos_token: str | None
    eos_token: str | None
    files: dict[str, tuple[int, str]]

    @property
    def half(self) -> bool:
        """Whether the graph computes in float16, as CUDA's must."""
        return self.precision == "fp16" if self.activations is None else self.activations == "float16"

    @property
    def described(self) -> str:
        """The precision of the weights, and what isn't as usual: ``int4 for CUDA, int8 KV``."""
        weights = f"{self.precision} for CUDA" if self.half and self.precision != "fp16" else self.precision
        return weights if self.kv == "float" else f"{weights}, {self.kv} KV"

    @property
    def context(self) -> int:
        """The longest sequence in tokens."""
        return self.positions if self.shape is None else self.shape.context

    @property
    def vocab(self) -> int | None:
        """How many tokens a decoder knows; ``None`` for models of other kinds."""
        if self.shape is not None:
            return self.shape.vocab
        return None if self.interface is None else self.interface.vocab


@dataclass(frozen=True, slots=True)
class Artifact:
    """One whole artifact on disk."""

    folder: Path
    manifest: Manifest

    @property
    def size(self) -> int:
        """Bytes on disk, about what the weights take in memory."""
        return sum(size for size, _ in self.manifest.files.values())

    @property
    def identity(self) -> str:
        """Which folder with which content: another for what another pull put in the same place."""
        content = hashlib.sha256(self.manifest.model_dump_json().encode()).hexdigest()
        return f"{self.folder.name}@{content[:16]}"

    @property
    def decoder(self) -> Path:
        """The decoder's ONNX file."""
        return self.folder / DECODER

    @property
    def task(self) -> str:
        """What it can answer: :data:`TEXT_GENERATION`, :data:`TEXT_EMBEDDINGS`, or another name of optimum's."""
        return TEXT_EMBEDDINGS if self.manifest.embedding is not None else self.manifest.task

    def plain_tokenizer(self) -> Tokenizer:
        """Load the tokenizer of an encoder, without the filling and the limit that its file may have."""
        try:
            tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ArtifactError(f"the artifact at {self.folder} is damaged ({error}): delete the folder") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def tokenizer(self) -> ChatTokenizer:
        """Load the tokenizer and the chat template."""
        special = {"bos_token": self.manifest.bos_token, "eos_token": self.manifest.eos_token}
        named = {name: text for name, text in special.items() if text}
        template = self.folder / TEMPLATE
        try:
            chat = ChatTemplate(template.read_text(encoding="utf-8"), named) if template.exists() else None
            tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ArtifactError(f"the artifact at {self.folder} is damaged ({error}): delete the folder") from error
        return ChatTokenizer(tokenizer, chat, bos=self.manifest.bos_token, known=self.manifest.vocab)


class ArtifactStore:
    """The artifacts under one cache folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_root()

    @property
    def downloads(self) -> Path:
        """Where fetched weights are kept, so that a newer builder needs no network."""
        return self.root / "downloads"

    def find(self, key: str) -> Artifact | None:
        """The artifact under ``key`` if there is one of this builder's version.

        Raises :class:`ArtifactError` for one that is damaged, with what to do about it.
        """
        folder = self._folder(key)
        try:
            stated = json.loads((folder / MANIFEST).read_bytes())
            if stated["builder"] != BUILDER_VERSION:
                return None
            manifest = Manifest.model_validate(stated)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise ArtifactError(f"the artifact at {folder} is damaged ({MANIFEST}): delete the folder") from error
        for name, (size, _) in manifest.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise ArtifactError(f"the artifact at {folder} is damaged ({name} is not whole): delete the folder")
        return Artifact(folder, manifest)

    def all(self) -> list[Artifact]:
        """Every artifact of this builder's version, by name; damaged ones are left out."""
        found = []
        for path in sorted((self.root / "artifacts").glob(f"*/{MANIFEST}")):
            with suppress(ArtifactError):
                found.append(self.find(path.parent.name))
        return [artifact for artifact in found if artifact is not None]

    def unusable(self) -> dict[str, int]:
        """What takes room and answers nobody, damaged or made by another version: the bytes by key."""
        usable = {artifact.folder.name for artifact in self.all()}
        folders = (path for path in sorted((self.root / "artifacts").glob("*")) if path.is_dir())
        return {path.name: _bytes_in(path) for path in folders if _KEY.fullmatch(path.name) and path.name not in usable}

    def unfinished(self) -> dict[str, int]:
        """What killed processes left of artifacts that they were making: the bytes by key."""
        found = (path for path in (self.root / "artifacts").glob(f".*{_PARTIAL}") if path.is_dir())
        return {path.name.removeprefix(".").removesuffix(_PARTIAL): _bytes_in(path) for path in sorted(found)}

    def remove(self, key: str) -> int:
        """Delete what is under ``key``, damaged, old or half-made as it may be; the bytes it took, 0 for nothing.

        Raises :class:`ArtifactError` while another process makes it.
        """
        folder, partial = self._folder(key), self._partial(key)
        if not folder.exists() and not partial.exists():
            return 0
        try:
            with FileLock(f"{partial}.lock", timeout=0):
                size = _bytes_in(folder) + _bytes_in(partial)
                shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout as error:
            raise ArtifactError(f"{folder} is being made by another roost pull: wait for it, or end it") from error
        return size

    @contextmanager
    def making(self, key: str) -> Iterator[Path]:
        """A temporary folder that becomes the artifact ``key`` when the block ends without an error."""
        folder = self._folder(key)
        replaced = folder.with_name(f".{folder.name}{_REPLACED}")
        with temporary_beside(folder) as partial:
            if replaced.exists() and not folder.exists():  # a process was killed between the two renamings
                replaced.rename(folder)
            yield partial
            shutil.rmtree(replaced, ignore_errors=True)
            if folder.exists():
                folder.rename(replaced)
            partial.rename(folder)
            shutil.rmtree(replaced, ignore_errors=True)

    @contextmanager
    def pulling(self, key: str, wait: Callable[[], None]) -> Iterator[bool]:
        """One process at a time gets ``key``; whether this one had to wait for another, of which ``wait`` hears.

        Whoever waited finds what the other one made. Raises :class:`ArtifactError` for a cache that can't be written.
        """
        lock, waited = FileLock(f"{self._partial(key)}.pull.lock"), False
        try:
            self._folder(key).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
            wait()
            lock.acquire()
        except OSError as error:
            reason = error.strerror or error
            raise ArtifactError(f"the cache {self.root} can't be written ({reason}): set ROOST_CACHE") from error
        try:
            yield waited
        finally:
            lock.release()

    def _folder(self, key: str) -> Path:
        """Where ``key`` lies; :class:`ArtifactError` for one that would lead elsewhere."""
        if not _KEY.fullmatch(key):
            raise ArtifactError(f"{key!r} is no model's name")
        return self.root / "artifacts" / key

    def _partial(self, key: str) -> Path:
        return self.root / "artifacts" / f".{key}{_PARTIAL}"


@contextmanager
def temporary_beside(folder: Path) -> Iterator[Path]:
    """An empty folder to make ``folder`` in, for one process at a time; what is left of it at the end goes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}{_PARTIAL}")
    with FileLock(f"{partial}.lock"):
        shutil.rmtree(partial, ignore_errors=True)  # a killed process's
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def artifact_key(model: str) -> str:
    """The folder name for a catalogue name: ``hf--nexusflow--starling-lm-7b-beta``."""
    return model.lstrip("@").replace("/", "--")


def cache_root() -> Path:
    """``ROOST_CACHE`` if set, else the platform's user cache folder."""
    configured = os.environ.get("ROOST_CACHE")
    return Path(configured) if configured else platformdirs.user_cache_path("roost", appauthor=False)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))


def file_record(path: Path) -> tuple[int, str]:
    """A file's size in bytes and its sha256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ):
            digest.update(piece)
    return path.stat().st_size, digest.hexdigest()
