"""``roost pull`` from a server that speaks the hub's protocol, in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from runtime.artifacts import TEXT_EMBEDDINGS, ArtifactStore, artifact_key
from runtime.pull_model import Wanted, pull_from
from tests.models.checkpoint import write_checkpoint
from tests.models.embedding import CARDS, OLD, with_optimum_s_inputs, write_sentence_transformer
from tests.models.hub import COMMIT, LICENSE, Hub, serving
from tests.worker.asking import MODEL

REPOSITORY = "Nexusflow/Starling-LM-7B-beta"  # as the card's info property has it
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
PIECE = 10 << 20  # bytes that huggingface_hub writes at a time


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "repository")
    for unwanted in ("pytorch_model-00001-of-00001.bin", "consolidated.safetensors", "README.md", "run.py"):
        (folder / unwanted).write_bytes(b"never to be fetched")
    return folder


@pytest.fixture
def hub(repository: Path) -> Iterator[Hub]:
    with serving(Hub(REPOSITORY, repository)) as hub:
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "cache")


@dataclass(frozen=True)
class Pull:
    """``roost pull`` with the hub's address, and an empty cache of the hub's client."""

    environment: Mapping[str, str]

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.begin(*arguments, **environment)
        output, errors = process.communicate(timeout=100)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return subprocess.Popen(
            [sys.executable, "-m", "wrangler_compat", "pull", *(arguments or (MODEL,))],
            env={**kept, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def pull(hub: Hub, store: ArtifactStore, tmp_path: Path) -> Pull:
    return Pull({"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "ROOST_CACHE": str(store.root)})


def test_a_name_is_all_it_takes(pull: Pull, hub: Hub, store: ArtifactStore) -> None:
    done = pull()
    assert done.returncode == 0, done.stderr
    assert f"downloading {REPOSITORY}" in done.stderr
    assert "int8: on cpu" in done.stderr  # the default, said aloud
    made = store.find(artifact_key(MODEL))
    assert made is not None
    assert (made.manifest.source, made.manifest.license) == (f"{REPOSITORY}@{COMMIT}", LICENSE)
    fetched = {name for name, _ in hub.sent}
    assert fetched >= {"config.json", "tokenizer.json", "tokenizer_config.json", *SHARDS}
    assert fetched.isdisjoint({"pytorch_model-00001-of-00001.bin", "consolidated.safetensors", "README.md", "run.py"})

    hub.sent.clear()
    assert pull().returncode == 0
    assert pull(MODEL, "--precision", "int4").returncode == 0
    assert hub.sent == []  # an artifact that is whole is used, a checkpoint that is here not fetched again
    offline = pull(MODEL, "--precision", "fp32", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr


def lengthen(shard: Path) -> None:
    """Give it more than two pieces of what every reader skips."""
    save_file(load_file(shard), shard, metadata={"note": "x" * 2 * PIECE})


def test_a_broken_connection_goes_on_in_the_middle_of_a_file(
    pull: Pull, hub: Hub, repository: Path, store: ArtifactStore
) -> None:
    lengthen(repository / SHARDS[1])
    hub.cut[SHARDS[1]] = PIECE + 1000
    done = pull()
    assert done.returncode == 0, done.stderr
    assert store.find(artifact_key(MODEL)) is not None
    assert [start for name, start in hub.sent if name == SHARDS[1]] == [0, PIECE]


@pytest.mark.parametrize(("by", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_pull_goes_on_with_the_file_it_was_at(
    pull: Pull, hub: Hub, repository: Path, store: ArtifactStore, tmp_path: Path, by: signal.Signals, status: int
) -> None:
    lengthen(repository / SHARDS[1])
    hub.stall[SHARDS[1]] = PIECE + 1000
    begun, cached = pull.begin(), tmp_path / "hf" / "hub"
    while not any(path.stat().st_size == PIECE for path in cached.rglob("*.incomplete")):
        assert begun.poll() is None, begun.communicate()
        time.sleep(0.02)
    begun.send_signal(by)
    _, told = begun.communicate(timeout=60)
    hub.go_on.set()
    assert (begun.returncode, "Traceback" in told) == (status, False)
    assert [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert list(cached.rglob("*.incomplete")) == []

    hub.sent.clear()
    assert pull().returncode == 0
    assert [name for name, _ in hub.sent if name.endswith(".safetensors")] == [SHARDS[1]]


def test_without_a_network_what_is_here_is_used(pull: Pull, hub: Hub, store: ArtifactStore, tmp_path: Path) -> None:
    assert pull().returncode == 0
    alone = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    again = pull(**alone)
    assert again.returncode == 0, again.stderr
    assert f"{REPOSITORY} can't be fetched" in again.stderr
    other = pull(MODEL, "--precision", "fp32", **alone)  # from the checkpoint that the hub's cache has
    assert other.returncode == 0, other.stderr
    shutil.rmtree(tmp_path / "hf")
    artifact_alone = pull(**alone)
    assert artifact_alone.returncode == 0, artifact_alone.stderr
    assert "what an earlier pull made is used" in artifact_alone.stderr
    made = store.find(artifact_key(MODEL))
    assert made is not None
    assert made.manifest.precision == "fp32"
    offline = pull(HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr


def test_a_repository_answers_for_another_name(pull: Pull, store: ArtifactStore) -> None:
    done = pull(REPOSITORY, "--as", MODEL)
    assert done.returncode == 0, done.stderr
    assert store.find(artifact_key(MODEL)) is not None


def refused(done: subprocess.CompletedProcess[str], store: ArtifactStore, words: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    *_, last = done.stderr.splitlines()
    assert last.startswith("Error: ")
    assert words in last
    assert "Traceback" not in done.stderr
    assert [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_gate_says_what_to_do(pull: Pull, hub: Hub, store: ArtifactStore) -> None:
    hub.token = "secret"
    refused(pull(), store, "is gated: ask for access on its page, then set HF_TOKEN")
    assert pull(HF_TOKEN="secret").returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / SHARDS[0]).unlink(), f"has no {SHARDS[0]} (pickled weights are never loaded)"),
        (lambda folder: [path.unlink() for path in folder.glob("*.json")], "holds no checkpoint"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text("[]"),
            "unreadable model.safetensors.index",
        ),
        (lambda folder: (folder / "config.json").write_text('{"architectures": ["Bert"]}'), "Bert"),
    ],
)
def test_a_repository_without_a_checkpoint_is_one_sentence(
    pull: Pull, repository: Path, store: ArtifactStore, change: Callable[[Path], object], words: str
) -> None:
    change(repository)
    refused(pull(), store, words)


def test_no_hub_is_one_sentence(pull: Pull, store: ArtifactStore) -> None:
    refused(pull(HF_ENDPOINT="http://127.0.0.1:9"), store, f"{REPOSITORY} can't be fetched")
    refused(pull(HF_HUB_OFFLINE="1"), store, "isn't in the hub's cache")
    refused(pull("some/thing", "--as", MODEL), store, "the hub has no some/thing")


@pytest.mark.parametrize("form", ["safetensors", "a graph"])
def test_what_embeds_comes_with_how_its_vectors_are_made(form: str, tmp_path: Path, store: ArtifactStore) -> None:
    folder = write_sentence_transformer(tmp_path / "encoder", pooling="cls", longest=12)
    (folder / "pytorch_model.bin").write_bytes(b"never to be fetched")
    if form == "a graph":
        made = pull_from(ArtifactStore(tmp_path / "first"), Wanted(OLD, task=TEXT_EMBEDDINGS), folder)
        with_optimum_s_inputs(made, folder / "onnx")
        shutil.copyfile(made.folder / "encoder.onnx.data", folder / "onnx" / "encoder.onnx.data")
        (folder / "model.safetensors").unlink()
    with serving(Hub("some/encoder", folder)) as hub:
        pull = Pull({"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "ROOST_CACHE": str(store.root)})
        asked = ("some/encoder", "--as", OLD, "--cards", str(CARDS))
        done = pull(*asked)
        assert done.returncode == 0, done.stderr
        made_here = store.find(artifact_key(OLD))
        assert made_here is not None
        facts = made_here.manifest.embedding
        assert facts is not None
        assert (facts.pooling, facts.normalised, facts.longest, facts.dimensions) == ("cls", True, 12, 64)
        assert made_here.manifest.source == f"some/encoder@{COMMIT}"
        assert "fp32 is here already" in pull(*asked).stderr
    again = pull(*asked)  # the hub is gone
    assert again.returncode == 0, again.stderr
    assert "what is here is used" in again.stderr
