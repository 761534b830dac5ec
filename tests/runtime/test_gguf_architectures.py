"""Every GGUF architecture computes what llama.cpp computes from the same files (reference/tiny_gguf.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.build import from_gguf
from runtime.checkpoint_weights import CheckpointWeights
from runtime.decoder_graph import write_decoder
from runtime.device import Device
from runtime.errors import ArtifactError
from runtime.gguf_weights import GgufWeights
from runtime.linear_graph import EXACT
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from runtime.shape import misstatements
from tests.runtime.reference.tiny_gguf import GGUF_NAMES, LENGTH, tokens, write_gguf

REFERENCE = Path(__file__).parent / "reference" / "gguf_logits.npz"
TOLERANCE = 1e-3
GELU_TOLERANCE = 5e-3  # llama.cpp looks GELU up in a table of float16
Floats = NDArray[np.float32]


@pytest.fixture(scope="module", params=GGUF_NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(name)
    write_gguf(folder / "model.gguf", name)
    return folder


def logits(weights: GgufWeights, folder: Path) -> Floats:
    """Of every token, read alone as the others follow: float32 ``[LENGTH, vocab]``."""
    write_decoder(folder / "decoder.onnx", weights, EXACT)
    session = DecoderSession(folder / "decoder.onnx", slots=1, capacity=LENGTH, device=Device(), threads=1)
    spans = (Span(0, 0, at, (token,), samples=True) for at, token in enumerate(tokens()))
    found = [session.run(StepPlan((), (), span))[0] for span in spans]
    session.close()
    return np.stack(found)


def test_logits_are_llama_cpp_s(name: str, folder: Path, tmp_path: Path) -> None:
    with np.load(REFERENCE) as saved:
        expected: Floats = saved[name]
    tolerance = GELU_TOLERANCE if name.startswith("gemma") else TOLERANCE
    np.testing.assert_allclose(logits(GgufWeights(folder / "model.gguf"), tmp_path), expected, rtol=0, atol=tolerance)


def test_a_gguf_says_what_its_checkpoint_says(name: str, folder: Path) -> None:
    checkpoint, weights = CheckpointWeights(folder / name), GgufWeights(folder / "model.gguf")
    found, expected = weights.shape, checkpoint.shape
    numbers = ("rope_factors", "rope_scale", "norm_epsilon")  # float32 in the file
    unsaid = ("attention_scale",) if name == "gemma2" else ()
    unsaid = unsaid if expected.window else (*unsaid, "full_layers")  # where none slides all are
    assert replace(found, **{key: getattr(expected, key) for key in (*numbers, *unsaid)}) == expected
    for key in numbers:
        np.testing.assert_allclose(getattr(found, key), getattr(expected, key), rtol=1e-6)
    for part in ("q", "k", "v", "o", "gate", "up", "down"):
        np.testing.assert_array_equal(weights.linear(3, part).dense(), checkpoint.linear(3, part).dense())
        assert (weights.bias(3, part) is None) == (checkpoint.bias(3, part) is None)


@pytest.mark.parametrize("kind", [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q5_1])
@pytest.mark.parametrize("name", ["llama3", "phi3_longrope"])
def test_parts_of_fused_and_reordered_matrices_are_read_in_every_type(name: str, kind: Type, tmp_path: Path) -> None:
    checkpoint = CheckpointWeights(write_gguf(tmp_path / "model.gguf", name, kind))
    weights = GgufWeights(tmp_path / "model.gguf")
    assert weights.precision() == kind.name
    for part in ("q", "k", "v", "o", "gate", "up"):
        rounded = gguf.dequantize(gguf.quantize(checkpoint.linear(1, part).dense(), kind), kind)
        np.testing.assert_allclose(weights.linear(1, part).dense(), rounded, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gemma2", {"window": 17}),
        ("gemma2", {"full_layers": ()}),
        ("gemma2", {"attention_softcap": 0.0}),
        ("llama3", {"rope_factors": ()}),
        ("phi3_longrope", {"rope_scale": 1.0}),
        ("gemma", {"activation": "silu"}),
    ],
)
def test_the_references_tell_every_constant(name: str, change: dict[str, Any], tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", name)
    weights = GgufWeights(tmp_path / "model.gguf")
    weights.__dict__["shape"] = replace(weights.shape, **change)
    with np.load(REFERENCE) as saved:
        assert np.abs(logits(weights, tmp_path) - saved[name]).max() > 4 * GELU_TOLERANCE


def altered(path: Path, *, architecture: str = "llama", **metadata: Any) -> Path:
    """A GGUF file with no tensor but an embedding, and with the given metadata."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        match value:
            case bool():
                writer.add_bool(f"{architecture}.{key}", value)
            case int():
                writer.add_int64(f"{architecture}.{key}", value)
            case float():
                writer.add_float64(f"{architecture}.{key}", value)
            case str():
                writer.add_string(f"{architecture}.{key}", value)
    writer.add_tensor("token_embd.weight", np.zeros((8, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


_WHOLE: dict[str, Any] = {
    "block_count": 1,
    "embedding_length": 32,
    "attention.head_count": 2,
    "feed_forward_length": 32,
    "context_length": 64,
}


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"architecture": "mamba"}, "the GGUF architecture mamba isn't served; llama, qwen2"),
        ({"block_count": 1}, r"the GGUF file lacks llama\.attention\.head_count"),
        (_WHOLE, r"the GGUF file lacks the tensor output_norm\.weight"),
        (
            _WHOLE | {"embedding_length": 64, "attention.head_count": 4},
            r"token_embd\.weight is \[8, 32\], not \[8, 64\]",
        ),
        (_WHOLE | {"rope.scaling.type": "yarn"}, r"model\.gguf scales its rotary positions by yarn"),
        (_WHOLE | {"block_count": 0}, "model.gguf states 0 for block_count"),
        (_WHOLE | {"attention.head_count": 4}, "heads of 8 values aren't served"),
    ],
)
def test_what_is_not_served_is_refused_in_one_sentence(metadata: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        GgufWeights(altered(tmp_path / "model.gguf", **metadata))


_VALUES = st.one_of(
    st.booleans(), st.integers(-3, 40), st.integers(-(1 << 62), 1 << 62), st.floats(), st.text(max_size=3)
)
_KEYS = (*_WHOLE, "attention.head_count_kv", "attention.key_length", "rope.freq_base", "rope.dimension_count")
_KEYS = (*_KEYS, "attention.sliding_window", "rope.scaling.factor", "rope.scaling.type", "final_logit_softcapping")


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, min_size=1, max_size=4))
def test_whatever_the_metadata_hold_it_is_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    path = altered(tmp_path_factory.mktemp("altered") / "model.gguf", **{**_WHOLE, **changes})
    with pytest.raises(ArtifactError), misstatements(path.name):
        GgufWeights(path)


def test_a_tokenizer_that_does_not_hold_together_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, "qwen2")
    with pytest.raises(ArtifactError, match=r"model\.gguf holds a tokenizer that can't be built: .*out of vocabulary"):
        from_gguf(with_tokenizer(path, tokens=["a", "b"], merges=["a c"]))


def with_tokenizer(path: Path, *, tokens: list[str], merges: list[str]) -> Path:
    """The same file with a tokenizer of GPT-2's kind."""
    reader, target = gguf.GGUFReader(path), path.with_name("with") / path.name
    target.parent.mkdir()
    writer = gguf.GGUFWriter(target, "qwen2")
    for name, field in reader.fields.items():
        if name.startswith("qwen2."):
            writer.add_key_value(name, field.contents(), field.types[0])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(merges)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
