"""What an adapter's files may hold, and the one sentence about what they may not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from runtime import adapters, peft_config
from runtime.adapter import PANEL, SCALE
from runtime.adapters import PeftAdapter
from runtime.checkpoint_weights import CheckpointWeights
from runtime.config import DecoderShape
from runtime.errors import AdapterError, FinetuneIncomplete
from tests.runtime.reference.tiny_adapters import write_tiny_adapter
from tests.runtime.reference.tiny_checkpoints import write_checkpoint

Tensors = dict[str, NDArray[Any]]
Q = "base_model.model.model.layers.0.self_attn.q_proj"
CONFIG, WEIGHTS = adapters.FILES


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> DecoderShape:
    folder = tmp_path_factory.mktemp("llama")
    write_checkpoint(folder, "llama")
    return CheckpointWeights(folder).shape


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound adapter: rank 8, q and v of four layers."""
    write_tiny_adapter(tmp_path, "llama", "qv")
    return tmp_path


def configure(folder: Path, **changes: Any) -> None:
    stated = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps(stated))


def weights(folder: Path) -> Tensors:
    """The file's tensors, which stay what they are when it is written anew."""
    return {name: values.copy() for name, values in load_file(folder / WEIGHTS).items()}


def alter(folder: Path, changes: Tensors) -> None:
    save_file({**weights(folder), **changes}, folder / WEIGHTS)


def fitted(folder: Path, shape: DecoderShape) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    return dict(PeftAdapter.read(folder).fit(shape, key="k", name="n").factors)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"peft_type": "IA3"}, "of PEFT's type IA3: LORA is served"),
        ({"use_dora": True}, "has DoRA, which isn't served"),
        ({"modules_to_save": ["lm_head"]}, "whole modules of its own"),
        ({"bias": "lora_only"}, 'trains biases .bias: "lora_only"'),
        ({"lora_bias": True}, "bias of the low-rank products"),
        ({"fan_in_fan_out": True}, "transposed weights"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "replicated layers"),
        ({"trainable_token_indices": [1]}, "embeddings of its own"),
        ({"target_parameters": ["mlp.experts"]}, "single parameters"),
        ({"init_lora_weights": "pissa_niter_16"}, "changes the base weights too .init_lora_weights: pissa_niter_16"),
        ({"r": 64}, "rank is 64: 1 to 32 are served, as on the platform"),
        ({"rank_pattern": {"q_proj": 33}}, "rank is 33"),
        ({"rank_pattern": {"q_proj": 0}}, "1 to 32 are served"),
        ({"rank_pattern": {"q_(proj": 4}}, r"a pattern that is none: 'q_\(proj'"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "isn't what PEFT writes|an alpha that is no number"),
        ({"r": "eight"}, "isn't what PEFT writes: r: "),
        ({"r": 4}, r"q_proj has factors \[8, 64\] and \[64, 8\], which are none of the rank 4"),
    ],
)
def test_a_configuration_that_is_not_served(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    configure(folder, **changes)
    with pytest.raises(AdapterError, match=sentence):
        PeftAdapter.read(folder)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("base_model.model.lm_head.lora_A.weight", "changes lm_head, which isn't served"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "has the tensor .*embed_tokens"),
        (f"{Q}.lora_magnitude_vector", "has the tensor .*lora_magnitude_vector"),
        (f"{Q}.base_layer.weight", "has the tensor .*base_layer"),
        ("base_model.model.model.layers.0.mlp.experts.lora_A.weight", "changes model.layers.0.mlp.experts"),
        ("base_model.model.model.layers.9.self_attn.k_proj.lora_A.weight", "one factor, of two"),
    ],
)
def test_a_tensor_that_is_not_served(folder: Path, name: str, sentence: str) -> None:
    alter(folder, {name: np.zeros((8, 64), np.float32)})
    with pytest.raises(AdapterError, match=sentence):
        PeftAdapter.read(folder)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.full((8, 64), np.nan, np.float32), "no numbers, or infinite"),
        (np.full((8, 64), np.inf, np.float32), "no numbers, or infinite"),
        (np.zeros((8, 64), np.int8), r"is I8 \[8, 64\]: a matrix of floats"),
        (np.zeros((8, 64), np.float64), "is F64"),
        (np.zeros(8, np.float32), r"is F32 \[8\]: a matrix of floats"),
        (np.zeros((4, 64), np.float32), "none of the rank 8"),
    ],
)
def test_values_that_are_not_served(folder: Path, values: NDArray[Any], sentence: str) -> None:
    alter(folder, {f"{Q}.lora_A.weight": values})
    with pytest.raises(AdapterError, match=sentence):
        PeftAdapter.read(folder)


def test_an_adapter_of_another_shape_is_told_both_shapes(folder: Path, shape: DecoderShape) -> None:
    sound = PeftAdapter.read(folder)
    with pytest.raises(AdapterError, match=r"q_proj of \[64, 64\], the weights that answer have \[128, 64\]"):
        sound.fit(replace(shape, heads=8), key="k", name="n")
    with pytest.raises(AdapterError, match=r"model.layers.2.self_attn.q_proj; the weights that answer have 2 layers"):
        sound.fit(replace(shape, layers=2), key="k", name="n")


def test_missing_and_damaged_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    monkeypatch.setattr(adapters, "MAX_BYTES", len(whole) - 1)
    with pytest.raises(AdapterError, match="the platform's limit"):
        PeftAdapter.read(folder)
    monkeypatch.undo()
    (folder / WEIGHTS).write_bytes(whole[:-1])
    with pytest.raises(AdapterError, match="not a readable safetensors file"):
        PeftAdapter.read(folder)
    save_file({}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match="has no tensors"):
        PeftAdapter.read(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FinetuneIncomplete, match=WEIGHTS):
        PeftAdapter.read(folder)
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(AdapterError, match="may run any code when it is read"):
        PeftAdapter.read(folder)
    (folder / CONFIG).write_bytes(b"{" * 100)
    with pytest.raises(AdapterError, match="isn't what PEFT writes"):
        PeftAdapter.read(folder)
    (folder / CONFIG).write_bytes(b" " * (peft_config.MAX_CONFIG_BYTES + 1))
    with pytest.raises(AdapterError, match="more than 1 MB"):
        PeftAdapter.read(folder)
    (folder / CONFIG).unlink()
    with pytest.raises(FinetuneIncomplete, match=CONFIG):
        PeftAdapter.read(folder)


def test_the_platforms_additions_and_what_says_how_it_was_trained_are_passed_over(folder: Path) -> None:
    configure(folder, model_type="llama", lora_dropout=0.1, loftq_config={}, megatron_core="megatron.core", r=8)
    assert PeftAdapter.read(folder).rank == 8


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_any_float_type_reads_as_what_it_is(folder: Path, shape: DecoderShape, dtype: str) -> None:
    as_type = np.dtype(getattr(ml_dtypes, dtype, dtype))
    tensors = {name: values.astype(as_type) for name, values in weights(folder).items()}
    save_file(tensors, folder / WEIGHTS)
    a, _ = fitted(folder, shape)["layer0.qkv"]
    expected = tensors[f"{Q}.lora_A.weight"].astype(np.float32) * SCALE
    assert np.array_equal(a[0, :, :8].T, expected)


def test_names_without_peft_s_prefixes_and_with_the_adapters_are_read_too(folder: Path, shape: DecoderShape) -> None:
    expected = fitted(folder, shape)
    tensors = weights(folder)
    for before, after in (("base_model.model.model.", ""), (".weight", ".default.weight")):
        save_file({name.replace(before, after): values for name, values in tensors.items()}, folder / WEIGHTS)
        found = fitted(folder, shape)
        for name, pair in expected.items():
            assert all(np.array_equal(*sides) for sides in zip(found[name], pair, strict=True))


def test_parts_lie_side_by_side_in_panels(folder: Path, shape: DecoderShape) -> None:
    a, b = fitted(folder, shape)["layer1.qkv"]
    assert a.shape == (1, shape.hidden, PANEL)
    q = shape.heads * shape.head_dim
    assert b[:8, :q].any()
    assert not b[8:, :q].any()
    assert not b[:8, q:].any()
    assert not b[:, q : q + shape.kv_heads * shape.head_dim].any()  # k has none


def test_what_float16_cannot_hold_is_refused(folder: Path, shape: DecoderShape) -> None:
    alter(folder, {f"{Q}.lora_B.weight": np.full((64, 8), 1e5, np.float32)})
    with pytest.raises(AdapterError, match="too large for float16"):
        PeftAdapter.read(folder).fit(shape, key="k", name="n", dtype=np.float16)
