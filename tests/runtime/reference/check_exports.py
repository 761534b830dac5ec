"""`make test-export`, its last part: optimum exports every tiny checkpoint for real, and roost serves what it made.

The command itself runs, with an environment of optimum's own that is kept in .venv-export/cache. make_foreign left the
checkpoints, onnxruntime-genai's graphs, and what PyTorch computes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner, Result

from runtime.artifacts import Artifact, ArtifactStore, artifact_key
from runtime.config import Pooling
from runtime.device import Device
from runtime.encoder_session import EncoderSession, Row
from runtime.engine import Executor
from runtime.exporter import export_needs
from runtime.open_decoder import open_decoder
from runtime.pull_model import Tell, Wanted, pull_from
from tests.runtime.reading import TOLERANCE, Reference, check_at_once, check_engine, check_in_chunks, check_ragged_batch
from tests.runtime.reference.tiny_checkpoints import prompts
from tests.runtime.reference.tiny_foreign import CONTEXT, DECODERS, ENCODERS, EXPORTED, LOGITS
from wrangler_compat.cli import main

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
ENCODER = "@cf/tests/tiny-encoder"
CATALOGUE_TASKS = {"feature-extraction": "Text Embeddings", "text-classification": "Text Classification"}
POOLINGS: tuple[Pooling, ...] = ("mean", "cls")
pytestmark = pytest.mark.timeout(600)  # the first one installs optimum


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_CACHE", str(EXPORTED.parent / "cache"))


def roost(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def pulled(folder: Path, *options: str, model: str = MODEL) -> Artifact:
    roost("rm", model)
    result = roost("pull", model, "--from", str(folder), *options)
    assert result.exit_code == 0, result.stderr
    made = ArtifactStore().find(artifact_key(model))
    assert made is not None
    return made


def opened(made: Artifact) -> Executor:
    context = made.manifest.context
    return open_decoder(made.decoder, made.manifest.interface, slots=5, capacity=context, device=Device(), threads=1)


def reference_of(name: str) -> Reference:
    return Reference(EXPORTED / LOGITS.name, name)


def check_all(made: Artifact, reference: Reference) -> None:
    session = opened(made)
    check_at_once(session, reference)
    check_in_chunks(session, reference, 16)
    check_ragged_batch(session, reference)
    session.close()
    check_engine(opened(made), reference)


@pytest.mark.parametrize("name", DECODERS)
def test_what_optimum_exports_says_what_pytorch_says(name: str) -> None:
    made = pulled(EXPORTED / name, "--exporter", "optimum")
    assert (made.manifest.exporter, made.manifest.precision) == ("optimum", "fp32")
    assert made.manifest.interface is not None
    assert made.manifest.interface.layout == "concat"
    assert made.manifest.context >= CONTEXT
    check_all(made, reference_of(name))
    answered = roost("run", MODEL, "hello", "-o", "max_tokens=4", "--no-stand-in", "--offline", "--json")
    assert json.loads(answered.stdout)["usage"]["completion_tokens"] == 4


def test_what_genai_builds_says_what_pytorch_says() -> None:
    check_all(pulled(EXPORTED / "genai_fp32"), reference_of("mistral"))


def test_half_precision_stays_near() -> None:
    name = "mistral"
    made = pulled(EXPORTED / name, "--exporter", "optimum", "--precision", "fp16")
    assert made.manifest.precision == "fp16"
    assert made.manifest.interface is not None
    assert made.manifest.interface.cache_type == "float16"
    session, reference = opened(made), reference_of(name)
    with pytest.raises(AssertionError) as caught:
        check_at_once(session, reference)
    session.close()
    differences = [line for line in str(caught.value).splitlines() if "Max absolute difference" in line]
    assert float(differences[0].rpartition(":")[2]) < 0.05


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_kept_for_its_task_and_embeds_where_that_is_it(name: str, tmp_path: Path) -> None:
    task = ENCODERS[name].task
    card = {"id": "x", "source": 1, "name": ENCODER, "description": "It reads.", "task": {"id": "y"}}
    card["task"] = {"id": "y", "name": CATALOGUE_TASKS[task]}
    (tmp_path / "card.json").write_text(json.dumps(card))
    made = pulled(EXPORTED / name, "--exporter", "optimum", "--cards", str(tmp_path), model=ENCODER)
    assert (made.manifest.task, made.manifest.exporter) == (task, "optimum")
    session = onnxruntime.InferenceSession(made.folder / "model.onnx", providers=["CPUExecutionProvider"])
    ids = np.array([prompts()[-1]])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    asked = {entry.name for entry in session.get_inputs()}
    found = session.run(None, {key: value for key, value in inputs.items() if key in asked})[0][0]
    with np.load(EXPORTED / LOGITS.name) as saved:
        np.testing.assert_allclose(found, saved[f"{name}.logits"], rtol=0, atol=TOLERANCE)
    if (facts := made.manifest.embedding) is not None:
        encoder = EncoderSession(made.folder / facts.graph, facts)
        rows = [Row(prompts()[-1], pooling) for pooling in POOLINGS] + [Row(prompts()[0] * 2, "mean")]
        np.testing.assert_allclose(encoder.run(rows)[:2], [found.mean(0), found[0]], rtol=0, atol=TOLERANCE)
        encoder.close()
    assert (facts is not None) == (task == "feature-extraction")
    assert name in roost("cache").stdout


def test_ctrl_c_while_exporting_leaves_nothing(tmp_path: Path) -> None:
    store, (checkpoint, exporters) = ArtifactStore(tmp_path), (EXPORTED / "opt", ArtifactStore().root / "exporters")
    (tmp_path / "exporters").symlink_to(exporters.resolve())
    looks = 0

    def interrupt(what: str, _done: int, _total: int) -> None:
        nonlocal looks
        looks += what.startswith("exporting")
        if looks == 3:  # a process of optimum's is at work
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull_from(store, Wanted(MODEL, exporter="optimum"), checkpoint, Tell(interrupt))
    assert [path for path in (tmp_path / "exports").rglob("*") if path.suffix != ".lock"] == []
    assert not store.all()


def test_what_optimum_can_t_export_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "Unheard"
    folder.mkdir()
    for path in (EXPORTED / "gpt2").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    own_code = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    for change, words in (
        ({}, "unheard"),
        ({"auto_map": own_code}, "code from its repository, which roost never runs"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard", **change}))
        result = roost("pull", MODEL, "--from", str(folder), "--exporter", "optimum")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.splitlines()[-1].startswith("Error: optimum can't export Unheard: ")
        assert words in result.stderr.splitlines()[-1]
    assert export_needs(folder, "fp32").parameters > 30_000
    assert [path for path in (ArtifactStore().root / "exports").rglob("*") if path.suffix != ".lock"] == []
