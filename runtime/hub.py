"""Fetches a checkpoint from the Hugging Face hub, through huggingface_hub and its cache.

Its settings apply: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE. A broken connection goes on in the middle of a file,
an interrupted pull with the file it was at: huggingface_hub keeps whole files alone.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ArtifactError
from runtime.graph_choice import choose_graph

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_BESIDE = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "genai_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "preprocessor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
_REPOSITORY = re.compile(r"(?:https?://[^/]+/)?([\w.-]+/[\w.-]+)/?(?:tree/main/?)?")
_POLL = 0.2  # seconds between looks at a download
Report = Callable[[str, int, int], None]


class Unreachable(ArtifactError):
    """The hub doesn't answer, or not as a hub does: what is here may still do."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A checkpoint in the hub's cache. ``license``: as the repository's card states it.

    ``graph``: the ONNX decoder that was chosen, where the repository holds graphs in place of a checkpoint.
    """

    repository: str
    commit: str
    folder: Path
    license: str
    graph: Path | None = None

    @property
    def source(self) -> str:
        """The repository and the commit: ``Nexusflow/Starling-LM-7B-beta@<commit>``."""
        return f"{self.repository}@{self.commit}"


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository's files at a commit, with their sizes in bytes."""

    repository: str
    commit: str
    sizes: Mapping[str, int]
    license: str

    @property
    def source(self) -> str:
        """As :attr:`Snapshot.source`."""
        return f"{self.repository}@{self.commit}"


def repository_of(address: str) -> str | None:
    """The ``owner/name`` that an address of the hub, or such a name itself, names."""
    found = _REPOSITORY.fullmatch(address.strip())
    return None if found is None else found[1]


def listing(repository: str) -> Listing | None:
    """What the hub has, or ``None`` where huggingface_hub was told to stay offline.

    Raises :class:`ArtifactError`; :class:`Unreachable` where the hub doesn't answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    with _one_sentence(repository):
        try:
            info = HfApi().model_info(repository, files_metadata=True)
        except OfflineModeIsEnabled:
            return None
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    stated = info.card_data.get("license") if info.card_data else None
    return Listing(repository, str(info.sha), sizes, str(stated or "not stated"))


def fetch(found: Listing, report: Report, *, precision: str | None = None) -> Snapshot:
    """Download the safetensors, tokenizer and configuration files of ``found`` that aren't here yet.

    Where it holds no safetensors but ONNX: the one graph in ``precision``, or the one that suits, and its weights.
    """
    beside = [name for name in found.sizes if name in _BESIDE or name == _INDEX]
    if not beside:
        raise ArtifactError(f"{found.repository} holds no checkpoint: it has no config.json")
    if _INDEX not in found.sizes and _SINGLE not in found.sizes and any(name.endswith(".onnx") for name in found.sizes):
        return _fetch_graph(found, report, precision)
    folder = _download(found, beside, report)
    names = [*beside, *_shards(found, folder)]
    _fetch_all(found, names, folder, report)
    return Snapshot(found.repository, found.commit, folder, found.license)


def _fetch_graph(found: Listing, report: Report, precision: str | None) -> Snapshot:
    from runtime.onnx_file import OnnxFile

    name = choose_graph(found.sizes, precision)
    place = name.rpartition("/")[0]
    beside = [path for path in found.sizes if path in _BESIDE or path in {f"{place}/{known}" for known in _BESIDE}]
    folder = _download(found, [*beside, name], report)
    data = [f"{place}/{path}".lstrip("/") for path in OnnxFile(folder / name).data]
    if missing := [path for path in data if path not in found.sizes]:
        raise ArtifactError(f"{found.repository} has no {missing[0]}, in which {name} keeps weights")
    _fetch_all(found, [*beside, name, *data], folder, report)
    return Snapshot(found.repository, found.commit, folder, found.license, folder / name)


def _fetch_all(found: Listing, names: list[str], folder: Path, report: Report) -> None:
    """Download ``names``, if the disk has room for them."""
    missing = sum(found.sizes[name] for name in names if not (folder / name).exists())
    free = shutil.disk_usage(folder).free
    if free < missing:
        raise ArtifactError(
            f"{found.repository} takes {missing / 1e9:.1f} GB more, {folder} has {free / 1e9:.1f} GB free"
        )
    _download(found, names, report)


def kept(repository: str) -> Snapshot:
    """The snapshot that the hub's cache has; for when it may not be asked."""
    from huggingface_hub import snapshot_download

    with _one_sentence(repository):
        folder = Path(snapshot_download(repository, local_files_only=True))
    return Snapshot(repository, folder.name, folder, "not stated")


def _shards(found: Listing, folder: Path) -> list[str]:
    """The weight files; other copies of the weights (consolidated, pickled, in other formats) stay where they are."""
    if _INDEX in found.sizes:
        try:
            names = sorted(set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{found.repository} has an unreadable {_INDEX}") from error
    else:
        names = [_SINGLE]
    if missing := [name for name in names if name not in found.sizes]:
        others = " (pickled weights are never loaded)" if any(name.endswith(".bin") for name in found.sizes) else ""
        raise ArtifactError(f"{found.repository} has no {missing[0]}{others}")
    return names


def _download(found: Listing, names: list[str], report: Report) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # the report is ours
    total, folder = sum(found.sizes[name] for name in names), Path()
    with _one_sentence(found.repository), _watched(found.repository, total, report):
        hf_hub_download(found.repository, names[0])  # by no revision: so the cache learns which one is current
        for name in names:
            folder = Path(hf_hub_download(found.repository, name, revision=found.commit)).parents[name.count("/")]
    return folder


@contextmanager
def _watched(repository: str, total: int, report: Report) -> Iterator[None]:
    """Report how many bytes of ``repository`` are in the cache while the block runs."""
    from huggingface_hub.constants import HF_HUB_CACHE

    blobs, done = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs", threading.Event()

    def watch() -> None:
        while not done.wait(_POLL):
            report(f"downloading {repository}", min(_bytes_in(blobs), total), total)

    watcher = threading.Thread(target=watch, daemon=True, name="roost-download")
    report(f"downloading {repository}", min(_bytes_in(blobs), total), total)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # it was renamed between the two looks
    return total


@contextmanager
def _one_sentence(repository: str) -> Iterator[None]:
    """Turn the hub's many errors into one, with what to do about it."""
    from huggingface_hub import errors

    try:
        yield
    except (ArtifactError, errors.OfflineModeIsEnabled):
        raise
    except errors.GatedRepoError as error:
        raise ArtifactError(
            f"{repository} is gated: ask for access on its page, then set HF_TOKEN or type hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ArtifactError(f"the hub has no {repository}, or it is private: set HF_TOKEN") from error
    except errors.LocalEntryNotFoundError as error:
        raise ArtifactError(f"{repository} can't be fetched, and isn't in the hub's cache: {_cause(error)}") from error
    except Exception as error:  # requests', httpx' and the system's
        raise Unreachable(f"{repository} can't be fetched: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    sentence = str(error).strip().partition("\n")[0].partition(". ")[0]
    return sentence.rstrip(".") or type(error).__name__
