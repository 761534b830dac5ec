"""Every architecture computes what transformers computes from the same files (reference/tiny_checkpoints.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from runtime.checkpoint_config import CheckpointConfig
from runtime.checkpoint_weights import CheckpointWeights
from runtime.decoder_graph import write_decoder
from runtime.device import Device
from runtime.errors import ArtifactError
from runtime.linear_graph import EXACT
from runtime.precision import COMPUTES, PrecisionName
from runtime.quantized_weights import QuantizedWeights
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from tests.runtime.reference.tiny_checkpoints import CHECKPOINTS, GREEDY, PROMPTS, WINDOW, config, write_checkpoint

Floats = NDArray[np.float32]
REFERENCE = Path(__file__).parent / "reference" / "checkpoint_logits.npz"
TOLERANCE = 1e-4
LENGTH = max(PROMPTS) + GREEDY


class Reference:
    """What transformers computed with one checkpoint."""

    def __init__(self, name: str) -> None:
        with np.load(REFERENCE) as saved:
            self.logits: Floats = saved[f"{name}.logits"]
            self.rows: list[list[int]] = [saved[f"{name}.row{index}"].tolist() for index in range(len(PROMPTS))]
            self.sha256 = str(saved[f"{name}.sha256"])


@pytest.fixture(scope="module", params=CHECKPOINTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def reference(name: str) -> Reference:
    return Reference(name)


@pytest.fixture(scope="module")
def session(name: str, reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DecoderSession]:
    folder = tmp_path_factory.mktemp(name)
    assert write_checkpoint(folder, name) == reference.sha256, "the checkpoint isn't the one that was computed with"
    write_decoder(folder / "decoder.onnx", CheckpointWeights(folder), EXACT)
    session = DecoderSession(folder / "decoder.onnx", slots=3, capacity=LENGTH, device=Device(), threads=1)
    yield session
    session.close()


def read(session: DecoderSession, tokens: list[int], start: int, end: int, *, row: int = 0) -> Floats:
    """The logits after token ``end`` - 1, reading the tokens from ``start`` as one chunk."""
    chunk = Span(row, row, start, tuple(tokens[start:end]), samples=True)
    logits: Floats = session.run(StepPlan((), (), chunk))[0]
    return logits


def test_logits_of_a_prompt_at_once(session: DecoderSession, reference: Reference) -> None:
    tokens = reference.rows[-1]
    for end in (1, 2, 7, WINDOW, WINDOW + 1, WINDOW + 2, 40, LENGTH):
        np.testing.assert_allclose(read(session, tokens, 0, end), reference.logits[end - 1], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size", [5, 16, 50])
def test_logits_of_a_prompt_in_chunks(session: DecoderSession, reference: Reference, size: int) -> None:
    tokens = reference.rows[-1]
    for start in range(0, LENGTH, size):
        end = min(start + size, LENGTH)
        found = read(session, tokens, start, end)
        np.testing.assert_allclose(found, reference.logits[end - 1], rtol=0, atol=TOLERANCE)


def test_greedy_tokens_of_a_ragged_batch(session: DecoderSession, reference: Reference) -> None:
    rows = [row[:length] for row, length in zip(reference.rows, PROMPTS, strict=True)]
    last = [read(session, row, 0, len(row), row=index) for index, row in enumerate(rows)]
    for step in range(GREEDY):
        np.testing.assert_allclose(last[-1], reference.logits[max(PROMPTS) + step - 1], rtol=0, atol=TOLERANCE)
        for row, logits in zip(rows, last, strict=True):
            row.append(int(logits.argmax()))
        if step < GREEDY - 1:
            spans = (Span(i, i, len(row) - 1, (row[-1],), samples=True) for i, row in enumerate(rows))
            last = list(session.run(StepPlan((), tuple(spans), None)))
    assert rows == reference.rows


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, {"window": WINDOW + 1}) for name in ("mistral", "qwen2_window", "gemma2", "phi3")),
        *((name, {"full_layers": ()}) for name in ("qwen2_window", "gemma2")),
        *((name, {"rope_factors": ()}) for name in ("llama3", "phi3_longrope", "qwen2_yarn")),
        *((name, {"activation": "silu"}) for name in ("gemma", "gemma2")),
        *((name, {"embedding_scale": 1.0}) for name in ("gemma", "gemma2")),
        ("gemma2", {"attention_scale": None}),
        ("gemma2", {"attention_softcap": 0.0}),
        ("gemma2", {"logit_softcap": 0.0}),
        *((name, {"rope_scale": 1.0}) for name in ("phi3_longrope", "qwen2_yarn")),
    ],
)
def test_the_references_tell_every_constant(name: str, change: dict[str, Any], tmp_path: Path) -> None:
    write_checkpoint(tmp_path, name)
    weights, reference = CheckpointWeights(tmp_path), Reference(name)
    weights.shape = replace(weights.shape, **change)
    write_decoder(tmp_path / "decoder.onnx", weights, EXACT)
    session = DecoderSession(tmp_path / "decoder.onnx", slots=1, capacity=LENGTH, device=Device(), threads=1)
    found = [read(session, reference.rows[-1], 0, end) for end in range(1, LENGTH + 1)]
    session.close()
    assert np.abs(np.stack(found) - reference.logits).max() > 30 * TOLERANCE


@pytest.mark.parametrize(("precision", "loss"), [("fp16", 0.005), ("int8", 0.1), ("int4", 0.5)])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_architecture_runs_in_every_precision(
    name: str, precision: PrecisionName, loss: float, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, name)
    weights = QuantizedWeights(CheckpointWeights(tmp_path), precision, lambda _parameters: None)
    write_decoder(tmp_path / "decoder.onnx", weights, COMPUTES[precision])
    session = DecoderSession(tmp_path / "decoder.onnx", slots=1, capacity=LENGTH, device=Device(), threads=1)
    reference = Reference(name)
    found = [read(session, reference.rows[-1], at, at + 1) for at in range(LENGTH)]
    session.close()
    # 4 bits of random weights lose much; what is wrong loses more than the logits' own spread.
    assert np.sqrt(np.mean((np.stack(found) - reference.logits) ** 2)) < loss * reference.logits.std()


def altered(folder: Path, **changes: Any) -> Path:
    """The tiny Llama with another ``config.json``; a change to ``None`` takes the key away."""
    write_checkpoint(folder, "llama")
    stated = json.loads((folder / "config.json").read_text()) | changes
    stated = {key: value for key, value in stated.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(stated))
    return folder


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architectures": ["FalconForCausalLM"]}, "the architecture FalconForCausalLM isn't served; Llama, Mistral"),
        ({"architectures": None, "model_type": "mamba"}, "the architecture mamba isn't served"),
        (
            {"rope_scaling": {"rope_type": "dynamic", "factor": 4}},
            "the rope scaling dynamic isn't served; linear, llama3",
        ),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4}}, "rope scaling llama3 lacks or misstates 'low_freq"),
        ({"hidden_act": "relu"}, "the activation relu isn't served"),
        ({"num_hidden_layers": None}, r"config\.json lacks num_hidden_layers"),
        ({"num_hidden_layers": 5}, "lacks the tensor model.layers.4"),
        ({"num_hidden_layers": 3}, "tensors that aren't served: model.layers.3"),
        ({"num_attention_heads": 8}, "heads of 8 values aren't served: a multiple of 16"),
        ({"intermediate_size": 96}, r"mlp.gate_proj.weight is \[80, 64\], not \[96, 64\]"),
        ({"quantization_config": {"bits": 4}}, "quantised already"),
        ({"num_attention_heads": -4}, r"config\.json states -4 for num_attention_heads, which can't be"),
        ({"num_key_value_heads": 3}, r"config\.json states 4 heads that share 3, which can't be"),
        ({"rope_theta": "many"}, r"config\.json holds a value of another kind than expected"),
        ({"rms_norm_eps": 0.0}, "epsilon that isn't above 0"),
        ({"architectures": ["Qwen2ForCausalLM"]}, "lacks the tensor model.layers.0.self_attn.k_proj.bias"),
    ],
)
def test_what_is_not_served_is_refused_in_one_sentence(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        CheckpointWeights(altered(tmp_path, **changes))


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(min_value=1 << 31, max_value=1 << 80),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.sampled_from(["factor", "rope_type", "short_factor", "rope_theta"]), st.integers(), max_size=3),
)
_KEYS = sorted({key for tiny in CHECKPOINTS.values() for key in config(tiny)} | {"layer_types", "rope_parameters"})


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(CHECKPOINTS)), st.dictionaries(st.sampled_from(_KEYS), _VALUES, min_size=1, max_size=4))
def test_whatever_a_configuration_holds_it_is_a_shape_or_one_sentence(name: str, changes: dict[str, Any]) -> None:
    try:
        found = CheckpointConfig.of(config(CHECKPOINTS[name]) | changes).shape()
    except ArtifactError:
        pass
    else:
        assert min(found.layers, found.hidden, found.heads, found.kv_heads, found.ffn, found.context) > 0
        assert found.heads % found.kv_heads == 0


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no readable config\.json"):
        CheckpointWeights(tmp_path)
    shard = altered(tmp_path) / "model-00002-of-00002.safetensors"
    shard.write_bytes(b"\0" * 64)
    with pytest.raises(ArtifactError, match=r"model-00002-of-00002\.safetensors is not a readable safetensors file"):
        CheckpointWeights(tmp_path)
    shard.unlink()
    with pytest.raises(ArtifactError, match=r"lacks the file model-00002"):
        CheckpointWeights(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../a.safetensors"}}')
    with pytest.raises(ArtifactError, match="outside the checkpoint"):
        CheckpointWeights(tmp_path)
    index.unlink()
    with pytest.raises(ArtifactError, match=r"holds neither model\.safetensors nor"):
        CheckpointWeights(tmp_path)


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "F32"), ("float16", "F16"), ("bfloat16", "BF16")])
def test_one_file_of_any_float_type_reads_the_same(tmp_path: Path, dtype: str, precision: str) -> None:
    altered(tmp_path)
    expected = CheckpointWeights(tmp_path)
    single = tmp_path / "single"
    single.mkdir()
    (single / "config.json").write_bytes((tmp_path / "config.json").read_bytes())
    tensors = {key: value for shard in tmp_path.glob("*.safetensors") for key, value in load_file(shard).items()}
    as_type = np.dtype(getattr(ml_dtypes, dtype, dtype))
    save_file({key: value.astype(as_type) for key, value in tensors.items()}, single / "model.safetensors")
    found = CheckpointWeights(single)
    assert (found.shape, found.precision()) == (expected.shape, precision)
    # bfloat16 has no more digits than float16; what is too small for the latter is lost.
    np.testing.assert_allclose(found.linear(3, "q").dense(), expected.linear(3, "q").dense(), rtol=0, atol=1e-7)
