"""A model's own weights from a folder or a GGUF file: every precision, once, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from runtime.artifacts import Artifact, ArtifactStore, artifact_key
from runtime.config import DecoderShape
from runtime.device import Device
from runtime.errors import ArtifactError, BadParameter
from runtime.estimate import disk_bytes, is_sensitive, parameters_in_name
from runtime.precision import PrecisionName, suitable_precision
from runtime.pull_model import Tell, Wanted, pull_from
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from tests.models.checkpoint import write_checkpoint

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
TOKENS = tuple(range(65, 105))
STARLING = DecoderShape(32, 4096, 32, 8, 128, 14_336, 32_002, 8192, 1e4, 1e-5, 4096)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "cache")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("hub") / "Tiny")


def left_in(store: ArtifactStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def logits(artifact: Artifact) -> NDArray[np.float32]:
    session = DecoderSession(artifact.decoder, slots=1, capacity=64, device=Device(), threads=1)
    chunk = Span(0, 0, 0, TOKENS, samples=True)
    found = session.run(StepPlan((), (), chunk))
    session.close()
    return found


# How far each may be from float32, in standard deviations of the logits. The model is random and tiny.
@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.01), ("int8", 0.1), ("int4", 0.5)])
def test_every_precision_stays_near_float32(
    store: ArtifactStore, checkpoint: Path, precision: PrecisionName, tolerance: float
) -> None:
    exact = logits(pull_from(store, Wanted(MODEL, "fp32"), checkpoint))
    made = pull_from(store, Wanted(MODEL, precision), checkpoint)
    error = np.sqrt(np.mean((logits(made) - exact) ** 2)) / exact.std()
    assert made.manifest.precision == precision
    assert 0 < error < tolerance


def test_an_artifact_says_where_it_came_from(store: ArtifactStore, checkpoint: Path) -> None:
    manifest = pull_from(store, Wanted(MODEL), checkpoint).manifest
    assert (manifest.weights, manifest.source, manifest.answers) == ("Tiny", "Tiny", MODEL)
    assert (manifest.eos_token, manifest.stop_tokens) == ("<end>", (257,))
    assert len(manifest.source_sha256) == 64
    assert not manifest.stand_in


def test_a_rerun_reuses_what_is_whole(store: ArtifactStore, checkpoint: Path) -> None:
    first = pull_from(store, Wanted(MODEL, "int8"), checkpoint)
    made = first.decoder.stat().st_mtime_ns
    said: list[str] = []
    assert pull_from(store, Wanted(MODEL), checkpoint, Tell(say=said.append)) == first
    assert said == ["int8 is here already (--precision makes another)"]
    assert pull_from(store, Wanted(MODEL, "int8"), checkpoint).decoder.stat().st_mtime_ns == made
    assert pull_from(store, Wanted(MODEL, "int4"), checkpoint).manifest.precision == "int4"


def test_other_weights_of_the_same_name_are_built_anew(store: ArtifactStore, checkpoint: Path, tmp_path: Path) -> None:
    first = pull_from(store, Wanted(MODEL), checkpoint)
    other = write_checkpoint(tmp_path / "Tiny", seed=1)
    assert pull_from(store, Wanted(MODEL), other).manifest.source_sha256 != first.manifest.source_sha256


def test_a_damaged_artifact_is_built_anew(store: ArtifactStore, checkpoint: Path) -> None:
    first = pull_from(store, Wanted(MODEL), checkpoint)
    first.decoder.write_bytes(b"half")
    assert pull_from(store, Wanted(MODEL), checkpoint).decoder.stat().st_size > 4


@pytest.mark.parametrize("at", ["writing", "checking"])
def test_ctrl_c_leaves_nothing(store: ArtifactStore, checkpoint: Path, at: str) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith(at) and (done or not total):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull_from(store, Wanted(MODEL, "int4"), checkpoint, Tell(interrupt))
    assert left_in(store) == []


def test_progress_says_what_is_done_and_ends_at_its_total(store: ArtifactStore, checkpoint: Path) -> None:
    told: list[tuple[str, int, int]] = []
    said: list[str] = []
    pull_from(store, Wanted(MODEL), checkpoint, Tell(lambda *now: told.append(now), said.append))
    written = [(done, total) for what, done, total in told if what == "writing int8 weights"]
    assert written[0][0] == 0
    assert written == sorted(written)
    assert written[-1][0] == written[-1][1]
    assert [sentence.partition(":")[0] for sentence in said] == ["int8"]


def test_a_full_disk_is_told_before_the_work(
    store: ArtifactStore, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ArtifactError, match=r"GB free; in int4 the model takes"):
        pull_from(store, Wanted(MODEL, "int4"), checkpoint)
    assert left_in(store) == []


def test_a_weight_beyond_float16_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "large")
    shard = folder / "model-00001-of-00002.safetensors"
    save_file({name: values.astype(np.float32) * 1e6 for name, values in load_file(shard).items()}, shard)
    with pytest.raises(ArtifactError, match="too large for fp16"):
        pull_from(store, Wanted(MODEL, "fp16"), folder)
    assert left_in(store) == []


@pytest.mark.parametrize("precision", ["int4", "fp32"])
@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        ("model.layers.1.mlp.up_proj.weight", "layer 1's up"),
        ("model.layers.0.input_layernorm.weight", "layer 0's attention_norm"),
        ("model.embed_tokens.weight", "the embedding"),
        ("model.norm.weight", "the final norm"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_no_numbers_are_refused(
    store: ArtifactStore, tmp_path: Path, tensor: str, named: str, value: float, precision: PrecisionName
) -> None:
    folder = write_checkpoint(tmp_path / "damaged")
    shard = folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][tensor]
    tensors = load_file(shard)
    tensors[tensor].ravel()[-1] = value
    save_file(tensors, shard)
    with pytest.raises(ArtifactError, match=f"{named} holds a weight that is infinite or not a number"):
        pull_from(store, Wanted(MODEL, precision), folder)
    assert left_in(store) == []


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for message in %}", "doesn't compile"),
        ("{{ raise_exception('never') }}", "refuse a plain question: the chat template refused the messages: never"),
        ("{{ messages[0]['nothing']['here'] }}", "refuse a plain question"),
        ("{{ 1 / 0 }}", "refuse a plain question"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "refuse a plain question"),
    ],
)
def test_a_broken_template_leaves_the_earlier_artifact(
    store: ArtifactStore, checkpoint: Path, tmp_path: Path, template: str, words: str
) -> None:
    first = pull_from(store, Wanted(MODEL), checkpoint)
    folder = shutil.copytree(checkpoint, tmp_path / "broken")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ArtifactError, match=words):
        pull_from(store, Wanted(MODEL), folder)
    assert store.find(artifact_key(MODEL)) == first


def test_a_tokenizer_of_another_model_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mixed")
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_tokens(["Hello"])
    tokenizer.save(str(path))
    with pytest.raises(ArtifactError, match="the text has the token 258, and the weights know 258"):
        pull_from(store, Wanted(MODEL), folder)
    assert left_in(store) == []


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model-00002-of-00002.safetensors"])
def test_a_folder_that_lacks_a_file_is_one_sentence(
    store: ArtifactStore, checkpoint: Path, tmp_path: Path, missing: str
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "lacking")
    (folder / missing).unlink()
    with pytest.raises(ArtifactError) as caught:
        pull_from(store, Wanted(MODEL), folder)
    assert "\n" not in str(caught.value)
    assert left_in(store) == []


def test_pickled_weights_are_never_loaded(store: ArtifactStore, checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "pickled")
    for path in [*folder.glob("*.safetensors"), folder / "model.safetensors.index.json"]:
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ArtifactError, match=r"holds neither model\.safetensors"):
        pull_from(store, Wanted(MODEL), folder)


def test_int4_spares_values_and_down_projections_of_some_layers() -> None:
    spared = {
        part: [layer for layer in range(32) if is_sensitive(STARLING, layer, part)] for part in ("v", "down", "q")
    }
    assert spared["q"] == []
    assert spared["v"] == list(range(32))
    assert spared["down"] == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]


@pytest.mark.parametrize(
    ("precision", "gigabytes"),
    [("int4", (4.5, 5.2)), ("int8", (8.0, 8.3)), ("fp16", (14.4, 14.6)), ("fp32", (28.8, 29.1))],
)
def test_sizes_of_a_7b_model_are_known_beforehand(precision: str, gigabytes: tuple[float, float]) -> None:
    least, most = gigabytes
    assert least < disk_bytes(STARLING, precision) / 1e9 < most


@pytest.mark.parametrize("precision", ["int4", "int8", "fp16", "fp32"])
def test_what_is_told_beforehand_is_what_is_written(
    store: ArtifactStore, checkpoint: Path, precision: PrecisionName
) -> None:
    made = pull_from(store, Wanted(MODEL, precision), checkpoint)
    assert made.manifest.shape is not None
    told = disk_bytes(made.manifest.shape, precision)
    written = made.manifest.files["decoder.onnx.data"][0]
    assert told * 0.95 < written < told + (300 << 10)  # pages, rotary tables


def test_a_cpu_gets_int4_where_memory_sets_the_pace() -> None:
    assert suitable_precision(STARLING, Device())[0] == "int4"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (MODEL, 7e9),
        ("@cf/tinyllama/tinyllama-1.1b-chat-v1.0", 1.1e9),
        ("@cf/qwen/qwen1.5-0.5b-chat", 0.5e9),
        ("@cf/microsoft/phi-2", None),
        ("@cf/baai/bge-m3", None),
    ],
)
def test_a_name_tells_the_number_of_parameters(name: str, parameters: float | None) -> None:
    assert parameters_in_name(name) == parameters


def test_a_token_that_the_weights_do_not_know_is_refused_before_it_is_computed(
    store: ArtifactStore, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "padded")
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_special_tokens(["[PAD]"])
    tokenizer.save(str(path))
    text = pull_from(store, Wanted(MODEL), folder).tokenizer()
    with pytest.raises(BadParameter, match="the text has the token 258, and the weights know 258"):
        text.encode_raw("a[PAD]")
    message = [{"role": "user", "content": "a[PAD]<end>"}]
    assert 257 not in text.encode_chat(message)  # with a template it stays text


def test_without_a_template_a_special_token_in_a_message_stays_text(
    store: ArtifactStore, checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "bare")
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    text = pull_from(store, Wanted(MODEL), folder).tokenizer()
    assert text.encode_raw("hi<end>")[-1] == 257
    assert text.encode_chat([{"role": "user", "content": "hi<end>"}]) == text.encode_raw("hi") + [
        text.encode_raw(letter)[0] for letter in "<end>"
    ]
