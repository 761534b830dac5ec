"""``roost pull`` from a server that speaks the hub's protocol, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.artifacts import ArtifactStore, artifact_key
from tests.models.checkpoint import write_checkpoint
from tests.models.hub import COMMIT, LICENSE, Hub, serving
from tests.worker.asking import MODEL

REPOSITORY = "Nexusflow/Starling-LM-7B-beta"  # as the card's info property has it
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
Pull = Callable[..., "subprocess.CompletedProcess[str]"]


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


@pytest.fixture
def pull(hub: Hub, store: ArtifactStore, tmp_path: Path) -> Pull:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        mine = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "ROOST_CACHE": str(store.root)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        command = [sys.executable, "-m", "wrangler_compat", "pull", *(arguments or (MODEL,))]
        return subprocess.run(command, env={**kept, **mine, **environment}, capture_output=True, text=True, timeout=100)

    return run


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


def test_a_download_that_broke_goes_on(pull: Pull, hub: Hub, store: ArtifactStore) -> None:
    hub.cut[SHARDS[1]] = 5000
    done = pull()
    assert done.returncode == 0, done.stderr
    assert store.find(artifact_key(MODEL)) is not None


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
