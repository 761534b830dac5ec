"""What a graph reads and writes is told from it; what can't be served is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import ArtifactError
from runtime.graph_choice import choose_graph
from runtime.graph_interface import GraphInterface, Sizes, TensorInfo, describe
from runtime.onnx_file import OnnxFile
from runtime.scheduler import Release, Span, StepPlan
from tests.models.arithmetic import VOCAB, next_token, write_arithmetic_decoder
from tests.models.foreign_arithmetic import write_foreign_decoder
from tests.runtime.conftest import CAPACITY, Decoder, WatchedExecutor

IDS = TensorInfo("input_ids", "int64", ("batch", "length"))
MASK = TensorInfo("attention_mask", "int64", ("batch", "total"))
LOGITS = TensorInfo("logits", "float32", ("batch", "length", 96))
PAST = [TensorInfo(f"past_key_values.0.{side}", "float32", ("batch", 2, "past", 16)) for side in ("key", "value")]
PRESENT = [TensorInfo(f"present.0.{side}", "float32", ("batch", 2, "past + length", 16)) for side in ("key", "value")]


def changed(tensors: Sequence[TensorInfo], **changes: object) -> list[TensorInfo]:
    return [replace(tensor, **changes) for tensor in tensors]  # type: ignore[arg-type]


def test_a_decoder_is_read() -> None:
    found = describe([IDS, *PAST, MASK], [LOGITS, *PRESENT])
    assert (found.layout, found.axis, found.vocab, found.layers, found.last_only) == ("concat", 2, 96, 1, False)
    assert [tensor.shape for tensor in found.cache] == [(1, 2, 0, 16)] * 2
    assert found.kv_bytes_per_token == 2 * 2 * 16 * 4
    half = describe([IDS, *changed(PAST, type="float16")], [LOGITS, *changed(PRESENT, type="float16")])
    assert half.kv_bytes_per_token == 2 * 2 * 16 * 2


def test_pairs_are_found_by_name_in_any_order() -> None:
    pasts = [TensorInfo(f"past.{i}.{side}", "float32", ("b", 2, "t", 16)) for side in "kv" for i in range(11)]
    presents = [TensorInfo(f"present.{i}.{side}", "float32", ("b", 2, "u", 16)) for i in range(11) for side in "vk"]
    found = describe([*pasts, IDS], [*presents, LOGITS])
    assert found.layers == 11
    assert [(t.past, t.present) for t in found.cache[4:6]] == [("past.2.k", "present.2.k"), ("past.2.v", "present.2.v")]


def test_sizes_that_the_graph_leaves_open_come_from_beside_it() -> None:
    pasts, presents = changed(PAST, shape=("b", 2, "past", "dim")), changed(PRESENT, shape=("b", 2, "total", "dim"))
    found = describe([IDS, *pasts], [LOGITS, *presents], sizes=Sizes(head_dim=64))
    assert found.cache[0].shape == (1, 2, 0, 64)
    with pytest.raises(ArtifactError, match=r"says how wide the heads of past_key_values\.0\.key are"):
        describe([IDS, *pasts], [LOGITS, *presents])


def test_tokens_may_lie_before_heads() -> None:
    pasts, presents = changed(PAST, shape=("b", "past", 2, 16)), changed(PRESENT, shape=("b", "total", 2, 16))
    found = describe([IDS, *pasts], [LOGITS, *presents])
    assert (found.axis, found.cache[0].shape) == (1, (1, 0, 2, 16))


def test_only_what_updates_its_cache_itself_is_bound_in_place() -> None:
    pairs = [(past.name, present.name) for past, present in zip(PAST, PRESENT, strict=True)]
    assert describe([IDS, MASK, *PAST], [LOGITS, *PRESENT], in_place=pairs).layout == "in_place"
    assert describe([IDS, MASK, *PAST], [LOGITS, *PRESENT], in_place=pairs[:1]).layout == "concat"


ONE_TOKEN = [TensorInfo("input_ids", "int64", ("batch", 1)), MASK, *PAST]
REFUSED: list[tuple[list[TensorInfo], list[TensorInfo], str]] = [
    ([IDS, MASK], [LOGITS], "keeps no keys and values: export it with its past"),
    ([TensorInfo("inputs_embeds", "float32", ("b", "s", 64)), *PAST], [LOGITS, *PRESENT], "inputs_embeds"),
    ([IDS, TensorInfo("encoder_hidden_states", "float32", ("b", "s", 64))], [LOGITS], "half of an encoder-decoder"),
    ([IDS, TensorInfo("past_key_values.0.encoder.key", "float32", ())], [LOGITS], "half of an encoder-decoder"),
    ([TensorInfo("pixel_values", "float32", ())], [LOGITS], "no input input_ids: it reads pixel_values"),
    ([IDS, *PAST], [TensorInfo("last_hidden_state", "float32", ()), *PRESENT], "no logits.*last_hidden_state"),
    ([IDS, *PAST, TensorInfo("past_conv.0", "float32", ())], [LOGITS, *PRESENT], "doesn't know: past_conv.0"),
    ([IDS, *PAST], [LOGITS, PRESENT[0]], r"don't pair: 0\.value"),
    ([IDS, *changed(PAST, type="bfloat16")], [LOGITS, *PRESENT], "keys and values are bfloat16; float32 and float16"),
    ([IDS, *changed(PAST, shape=(2, "b", "t"))], [LOGITS, *PRESENT], "has 3 dimensions; 4 are served"),
    ([IDS, *changed(PAST, shape=("b", 2, 1024, 16))], [LOGITS, *PRESENT], "tells no axis of tokens"),
    ([IDS, *changed(PAST, shape=("b", 2, "x", "y"))], [LOGITS, *changed(PRESENT, shape=("b", 2, "x", "y"))], "no axis"),
    (ONE_TOKEN, [LOGITS, *PRESENT], "reads 1 tokens at a time"),
    ([replace(IDS, shape=(4, "s")), *PAST], [LOGITS, *PRESENT], "reads 4 rows at once"),
    ([IDS, replace(MASK, shape=("b", 1, "s", "t")), *PAST], [LOGITS, *PRESENT], "attention_mask has 4 dimensions"),
    ([IDS, replace(MASK, type="float32"), *PAST], [LOGITS, *PRESENT], "attention_mask is float32"),
    ([IDS, *PAST], [replace(LOGITS, type="bfloat16"), *PRESENT], "its logits are bfloat16"),
]


@pytest.mark.parametrize(("inputs", "outputs", "words"), REFUSED)
def test_what_can_t_be_served_is_refused_by_name(
    inputs: list[TensorInfo], outputs: list[TensorInfo], words: str
) -> None:
    with pytest.raises(ArtifactError, match=words) as caught:
        describe(inputs, outputs)
    assert "\n" not in str(caught.value)


def test_our_own_kind_is_known(tmp_path: Path) -> None:
    path = write_arithmetic_decoder(tmp_path / "decoder.onnx")
    assert OnnxFile(path).interface(Sizes()).layout == "own"


VARIANTS = {
    "merged": {"branch": True},
    "told how many logits": {"keep": True},
    "last logits alone": {"last_only": True},
    "last logits alone, in place": {"last_only": True, "in_place": True},
    "told how many logits, in place": {"keep": True, "in_place": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_of_inputs_and_outputs_is_fed(variant: str, tmp_path: Path) -> None:
    """A prompt in chunks, steps beside another row, and drafts of which some are taken back."""
    path = tmp_path / "model.onnx"
    session = WatchedExecutor(Decoder(path, write_foreign_decoder(path, **VARIANTS[variant])), slots=3, rows=3)
    row, other = list(range(3, 90)), [5, 6, 7]

    def run(*spans: Span, chunk: Span | None = None) -> list[int]:
        return [int(logits.argmax()) for logits in session.run(StepPlan((), spans, chunk))]

    assert run(chunk=Span(1, 1, 0, tuple(other), samples=True)) == [next_token(other)]
    assert run(chunk=Span(0, 0, 0, tuple(row[:70]), samples=False)) == []
    assert run(chunk=Span(0, 0, 70, tuple(row[70:80]), samples=True)) == [next_token(row[:80])]
    steps = Span(0, 0, 80, (row[80],), samples=True), Span(1, 1, 3, (8,), samples=False)
    assert run(*steps) == [next_token(row[:81])]
    drafts = Span(0, 0, 81, tuple(row[81:85]), samples=True, drafted=3), Span(1, 1, 4, (9,), samples=True)
    assert run(*drafts) == [next_token(row[:end]) for end in range(82, 86)] + [next_token([*other, 8, 9])]
    assert run(Span(0, 0, 83, (1,), samples=True)) == [next_token([*row[:83], 1])]  # two drafts weren't accepted
    session.run(StepPlan((Release(0), Release(1)), (), Span(2, 2, 0, (1, 2), samples=False)))
    session.close()
    assert VOCAB > CAPACITY // 2  # so that the rows' tokens are all different


def external(path: Path, location: str) -> Path:
    """A graph whose weights lie elsewhere."""
    weight = numpy_helper.from_array(
        numpy_helper.to_array(helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2])), "w"
    )
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [out], initializer=[weight])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize(
    "location", ["../weights", "/etc/passwd", "a/b", "..", "", "a\\b", "C:\\weights", "./weights.data/../../x"]
)
def test_weights_come_from_beside_the_graph_alone(location: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="outside its folder, which isn't allowed"):
        OnnxFile(external(tmp_path / "model.onnx", location))


def test_plain_names_of_weights_are_found(tmp_path: Path) -> None:
    assert OnnxFile(external(tmp_path / "model.onnx", "model.onnx_data")).data == ["model.onnx_data"]


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07"])
def test_what_is_no_graph_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx is not a readable ONNX model") as caught:
        OnnxFile(path)
    assert "\n" not in str(caught.value)


HUB = {
    "onnx/model.onnx": 300_000,
    "onnx/model.onnx_data": 2_000_000_000,
    "onnx/model_fp16.onnx": 1_000_000_000,
    "onnx/model_q4.onnx": 500_000_000,
    "onnx/model_q4f16.onnx": 400_000_000,
    "onnx/model_quantized.onnx": 600_000_000,
    "onnx/model_uint8.onnx": 600_000_000,
    "config.json": 700,
}


@pytest.mark.parametrize(
    ("precision", "name"),
    [
        (None, "onnx/model_q4.onnx"),  # float32 is large, its data counted
        ("fp32", "onnx/model.onnx"),
        ("fp16", "onnx/model_fp16.onnx"),
        ("int4", "onnx/model_q4.onnx"),
        ("int8", "onnx/model_quantized.onnx"),
    ],
)
def test_the_hub_s_names_tell_precisions(precision: str | None, name: str) -> None:
    assert choose_graph(HUB, precision) == name


def test_other_layouts_of_folders_are_known() -> None:
    small = {"model.onnx": 1000, "model_q4.onnx": 400}
    assert choose_graph(small, None) == "model.onnx"
    merged = dict.fromkeys(("decoder_model.onnx", "decoder_model_merged.onnx", "decoder_with_past_model.onnx"), 1)
    assert choose_graph(merged, None) == "decoder_model_merged.onnx"
    assert choose_graph({"anything.onnx": 1}, "int4") == "anything.onnx"
    genai = {
        f"{place}/model.onnx": 1 for place in ("cuda/cuda-int4-rtn-block-32", "cpu_and_mobile/cpu-int4-rtn-block-32")
    }
    assert choose_graph(genai, None) == "cpu_and_mobile/cpu-int4-rtn-block-32/model.onnx"
    assert choose_graph({"a.onnx": 1, "b.onnx": 1}, None, stated="b.onnx") == "b.onnx"


@pytest.mark.parametrize(
    ("sizes", "precision", "words"),
    [
        ({"model.onnx": 1, "model_q4.onnx": 1}, "fp16", r"no graph in fp16, but in fp32 \(model\.onnx\), int4"),
        ({"a.onnx": 1, "b.onnx": 1}, None, "which of these is the decoder can't be told: a.onnx, b.onnx"),
        ({"config.json": 1}, None, "no ONNX file"),
    ],
)
def test_what_can_t_be_chosen_is_told(sizes: dict[str, int], precision: str | None, words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        choose_graph(sizes, precision)


def test_an_interface_survives_the_manifest() -> None:
    from pydantic import TypeAdapter

    adapter = TypeAdapter(GraphInterface)
    found = describe([IDS, *PAST, MASK], [LOGITS, *PRESENT])
    assert adapter.validate_json(adapter.dump_json(found)) == found
