"""``roost pull`` of decoders that others exported: from a folder, a file and the hub, then answering."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from runtime.artifacts import ArtifactStore, artifact_key
from tests.models.checkpoint import write_checkpoint
from tests.models.hub import COMMIT, Hub, serving
from tests.runtime.reference.tiny_foreign import FOLDER
from tests.worker.asking import MODEL
from wrangler_compat.cli import main

REPOSITORY = "onnx-community/Tiny-ONNX"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    root = tmp_path / "cache"
    monkeypatch.setenv("ROOST_CACHE", str(root))
    return root


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The repository's graphs: ``gpt2``, ``genai_fp32`` and ``genai_int4``."""
    for path in FOLDER.glob("*.tar.xz"):
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path / "made", filter="data")
    return tmp_path / "made"


@pytest.fixture
def onnx_repository(made: Path, tmp_path: Path) -> Path:
    """A folder as repositories of onnx-community are: graphs below, the rest above."""
    folder = tmp_path / "repository"
    shutil.copytree(made / "gpt2", folder)
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    for name, known in {"model.onnx": "model_q4.onnx", "model.onnx.data": "model_q4.onnx_data"}.items():
        shutil.copy(made / "genai_int4" / name, folder / "onnx" / known)
    graph = onnx.load(folder / "onnx" / "model_q4.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "model_q4.onnx_data" if entry.key == "location" else entry.value
    onnx.save(graph, folder / "onnx" / "model_q4.onnx")
    (folder / "onnx" / "model_fp16.onnx").write_bytes(b"never to be read")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_key_value_heads": 2, "head_dim": 16}))
    return folder


def roost(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def pull(*arguments: str) -> str:
    result = roost("pull", MODEL, *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(words: str, *arguments: str) -> None:
    result = roost("pull", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert words in result.stderr.splitlines()[-1]
    assert not ArtifactStore().all()


@pytest.mark.parametrize(("name", "precision"), [("gpt2", "fp32"), ("genai_fp32", "fp32"), ("genai_int4", "int4")])
def test_a_folder_made_elsewhere_answers(made: Path, name: str, precision: str) -> None:
    assert pull("--from", str(made / name)).startswith(f"{name} {precision} for {MODEL} at ")
    answered = roost("run", MODEL, "hello", "-o", "max_tokens=5", "--no-stand-in", "--offline", "--json")
    assert answered.exit_code == 0, answered.stderr
    assert json.loads(answered.stdout)["usage"]["completion_tokens"] == 5
    too_long = roost("run", MODEL, "x" * 100, "-o", "max_tokens=60", "--no-stand-in", "--offline")
    assert "(128)" in too_long.stderr  # positions that the graph has
    shown = json.loads(roost("models", "show", MODEL, "--json").stdout)
    assert shown["weights here"] == f"{name} {precision}"
    assert [need["precision"] for need in shown["needs here"]] == [precision]
    assert [entry["weights"] for entry in json.loads(roost("cache", "--json").stdout)["entries"]] == [name]


def test_what_is_whole_is_used_again(made: Path) -> None:
    pull("--from", str(made / "gpt2"))
    found = ArtifactStore().find(artifact_key(MODEL))
    assert found is not None
    at = found.decoder.stat().st_mtime_ns
    pull("--from", str(made / "gpt2"))
    pull("--from", str(made / "gpt2" / "model.onnx"), "--precision", "fp32")
    assert found.decoder.stat().st_mtime_ns == at


def test_a_repository_s_folder_has_a_graph_for_each_precision(onnx_repository: Path) -> None:
    assert "repository fp32" in pull("--from", str(onnx_repository))
    assert "repository int4" in pull("--from", str(onnx_repository), "--precision", "int4")
    assert "repository fp32" in pull("--from", str(onnx_repository / "onnx" / "model.onnx"))


def test_what_is_not_there_is_told(made: Path, onnx_repository: Path, tmp_path: Path) -> None:
    refused("no graph in int8, but in fp16", MODEL, "--from", str(onnx_repository), "--precision", "int8")
    refused(
        "model.onnx is in fp32, and can't be had in int4", MODEL, "--from", str(made / "gpt2"), "--precision", "int4"
    )
    refused("--kv int8 is for graphs that roost builds", MODEL, "--from", str(made / "gpt2"), "--kv", "int8")
    refused("is an ONNX graph already", MODEL, "--from", str(made / "gpt2"), "--exporter", "optimum")
    refused("--task is for --exporter optimum", MODEL, "--from", str(made / "gpt2"), "--task", "text-generation")
    (made / "genai_fp32" / "model.onnx.data").unlink()
    refused("model.onnx keeps weights in model.onnx.data, which isn't", MODEL, "--from", str(made / "genai_fp32"))
    (made / "gpt2" / "tokenizer.json").unlink()
    refused("holds a tokenizer.json", MODEL, "--from", str(made / "gpt2"))


def test_another_task_than_the_card_s_is_refused(tmp_path: Path) -> None:
    checkpoint = str(write_checkpoint(tmp_path / "Tiny"))
    wanted = (MODEL, "--from", checkpoint, "--exporter", "optimum", "--task", "feature-extraction")
    refused("performs Text Generation, which no export for feature-extraction can answer", *wanted)


def test_a_graph_that_can_t_run_is_refused_with_the_reason(made: Path) -> None:
    graph = made / "gpt2" / "model.onnx"
    model = onnx.load(graph)
    model.graph.node[-1].op_type = "Unheard"
    onnx.save(model, graph)
    refused("ONNX Runtime can't load decoder.onnx", MODEL, "--from", str(made / "gpt2"))


def test_a_graph_that_forgets_is_refused(made: Path) -> None:
    graph = made / "gpt2" / "model.onnx"
    model = onnx.load(graph)
    concat = next(node for node in model.graph.node if node.op_type == "Concat" and node.output[0] == "present.1.value")
    inputs = [*concat.input]
    concat.input[:] = inputs[::-1]  # new values before old ones
    onnx.save(model, graph)
    refused("computes something else from its cache than without it", MODEL, "--from", str(made / "gpt2"))


@pytest.fixture
def hub(onnx_repository: Path) -> Hub:
    return Hub(REPOSITORY, onnx_repository)


def in_process_of_its_own(hub: Hub, home: Path, *arguments: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(home)}
    command = [sys.executable, "-m", "wrangler_compat", "pull", REPOSITORY, "--as", MODEL, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_repository_without_safetensors_gives_its_graph(hub: Hub, tmp_path: Path) -> None:
    with serving(hub):
        assert "Tiny-ONNX fp32" in in_process_of_its_own(hub, tmp_path / "hf")
        fetched = {name for name, _ in hub.sent}
        assert fetched >= {"config.json", "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx"}
        assert not any("q4" in name or "fp16" in name for name in fetched)
        hub.sent.clear()
        assert "Tiny-ONNX int4" in in_process_of_its_own(hub, tmp_path / "hf", "--precision", "int4")
        assert {name for name, _ in hub.sent} == {"onnx/model_q4.onnx", "onnx/model_q4.onnx_data"}
    made = ArtifactStore().find(artifact_key(MODEL))
    assert made is not None
    assert made.manifest.source == f"{REPOSITORY}@{COMMIT}"
    assert made.manifest.license == "apache-2.0"
