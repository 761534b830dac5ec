"""``roost pull --from``, ``cache``, ``rm`` and what ``models show`` tells of a model's needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runtime import cuda_driver
from runtime.artifacts import ArtifactStore, artifact_key
from runtime.cuda_driver import Gpu
from runtime.stand_in import GGUF_NAME
from tests.models.checkpoint import write_checkpoint
from tests.worker.asking import MODEL
from wrangler_compat.cli import main

STAND_IN_FILE = ArtifactStore().downloads / GGUF_NAME  # of the cache outside these tests


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    root = tmp_path / "cache"
    monkeypatch.setenv("ROOST_CACHE", str(root))
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("cli") / "Tiny"))


def roost(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def told(*arguments: str) -> Any:
    result = roost(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def one_sentence(result: Result, words: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert words in result.stderr


def test_weights_come_answer_are_listed_and_go(checkpoint: str, cache: Path) -> None:
    pulled = roost("pull", MODEL, "--from", checkpoint, "--kv", "int8")
    assert pulled.exit_code == 0, pulled.stderr
    assert "int8: on cpu" in pulled.stderr
    assert pulled.stdout.startswith(f"Tiny int8, int8 KV for {MODEL} at ")
    assert told("models", "show", MODEL)["weights here"] == "Tiny int8, int8 KV"

    answer = told("run", MODEL, "hello", "-o", "max_tokens=3", "--no-stand-in", "--offline")
    assert answer["usage"]["completion_tokens"] == 3

    listed = told("cache")
    assert listed["folder"] == str(cache)
    assert [(entry["model"], entry["weights"], entry["precision"], entry["kv"]) for entry in listed["entries"]] == [
        (MODEL, "Tiny", "int8", "int8")
    ]
    assert listed["bytes"] == listed["entries"][0]["bytes"] > 100_000

    assert roost("rm", MODEL).stdout.endswith("MB freed\n")
    assert told("cache")["entries"] == []
    one_sentence(roost("rm", MODEL), "has no weights of its own here")


def test_a_model_s_needs_are_told_before_it_is_here(checkpoint: str) -> None:
    guessed = told("models", "show", MODEL)["needs here"]
    assert [need["precision"] for need in guessed] == ["int4", "int8", "fp16", "fp32"]
    assert all(need["speed"] > 0 and need["memory"] >= need["disk"] for need in guessed)
    assert 4e9 < guessed[0]["disk"] < 6e9  # its name says 7 B
    roost("pull", MODEL, "--from", checkpoint)
    assert told("models", "show", MODEL)["needs here"][0]["disk"] < 1e6  # the weights that are here say more
    assert "in int4" in roost("models", "show", MODEL).stdout


def test_a_model_s_needs_on_each_gpu_are_told_too(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("models", "show", MODEL)["needs on GPUs"] == []
    there = [Gpu(index, f"Stub {index}", (8 + 72 * index) << 30, 80 << 30) for index in range(2)]
    monkeypatch.setattr(cuda_driver, "gpus", lambda: there)
    guessed = told("models", "show", MODEL)["needs on GPUs"]
    assert [(need["device"], need["precision"]) for need in guessed] == [
        (f"cuda:{index}", precision) for index in range(2) for precision in ("int4", "fp16")
    ]
    assert 13e9 < guessed[1]["weights"] < 16e9
    shown = " ".join(roost("models", "show", MODEL).stdout.split())
    assert "GB of weights; doesn't fit the 8.6 GB free on Stub 0" in shown
    assert "GB of weights; fits the 85.9 GB free on Stub 1" in shown
    roost("pull", MODEL, "--from", checkpoint)
    known = told("models", "show", MODEL)["needs on GPUs"][0]
    assert known["kv"] == 16 * 512 * (2 * 2 * 2 * 16 * 2)
    assert "0.0 of KV cache (16 rows" in " ".join(roost("models", "show", MODEL).stdout.split())


def test_without_from_the_name_must_lead_to_a_repository(checkpoint: str) -> None:
    one_sentence(roost("pull", "neither", "--as", MODEL), "names neither a model of the catalogue nor a repository")
    one_sentence(roost("pull", "@cf/no/model"), "@cf/no/model")
    one_sentence(roost("pull", "some/repository"), "some/repository")
    one_sentence(roost("pull"), "name a MODEL")
    one_sentence(roost("rm"), "name a MODEL")


def test_weights_may_answer_for_another_name(checkpoint: str) -> None:
    assert f"for {MODEL}" in roost("pull", "--from", checkpoint, "--as", MODEL).stdout


def test_what_a_killed_pull_left_is_listed_and_goes(cache: Path) -> None:
    half = cache / "artifacts" / f".{artifact_key(MODEL)}.partial"
    half.mkdir(parents=True)
    (half / "decoder.onnx.data").write_bytes(bytes(2_000_000))
    (entry,) = told("cache")["entries"]
    assert entry == {"model": "(half-made)", "weights": artifact_key(MODEL), "bytes": 2_000_000}
    assert "(half-made)" in roost("cache").stdout
    assert roost("rm", MODEL).stdout == "2 MB freed\n"
    assert told("cache")["entries"] == []


@pytest.mark.weights
def test_the_stand_in_s_own_file_is_not_rounded_anew() -> None:
    if not STAND_IN_FILE.exists():
        pytest.skip("this cache holds the stand-in without the file it was built from")
    for options in (("--precision", "fp32"), ("--kv", "int8")):
        one_sentence(roost("pull", MODEL, "--from", str(STAND_IN_FILE), *options), "leave out --precision and --kv")


@pytest.mark.parametrize("name", ["", ".", "..", "@cf/../.."])
def test_rm_takes_no_name_that_leads_elsewhere(checkpoint: str, name: str) -> None:
    roost("pull", MODEL, "--from", checkpoint)
    result = roost("rm", name)
    assert result.exit_code == 1
    assert len(told("cache")["entries"]) == 1


@pytest.mark.parametrize("option", ["--keep-alive=-5", "--keep-alive=nan", "--memory=nan", "--memory=inf"])
def test_a_number_that_is_none_is_refused(option: str) -> None:
    one_sentence(roost("serve", "--offline", "--port", "0", option), "a number from 0 on is needed")


def test_an_end_token_that_is_no_number_is_one_sentence(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "odd")
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, "eos_token_id": 2.5}))
    one_sentence(roost("pull", MODEL, "--from", str(folder)), "holds a value of another kind than expected")


def test_what_is_damaged_is_listed_and_goes(checkpoint: str, cache: Path) -> None:
    roost("pull", MODEL, "--from", checkpoint)
    data = cache / "artifacts" / artifact_key(MODEL) / "decoder.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    (entry,) = told("cache")["entries"]
    assert (entry["model"], entry["weights"]) == ("(damaged or outdated)", artifact_key(MODEL))
    assert entry["bytes"] > 100_000
    assert roost("rm", MODEL).exit_code == 0
    assert told("cache")["entries"] == []
