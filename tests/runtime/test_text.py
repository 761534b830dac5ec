"""Text laws: no half characters, no leaked stop strings, special tokens only where the template puts them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.artifacts import ArtifactStore
from runtime.chat_template import ChatTemplate
from runtime.errors import ArtifactError, BadParameter
from runtime.gguf_tokenizer import build_tokenizer, stop_tokens
from runtime.stand_in import find_stand_in
from runtime.stopping import StopStrings
from runtime.tokenizer import ChatTokenizer

REFERENCE = Path(__file__).parent / "reference"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_level_metadata() -> dict[str, Any]:
    """A tokenizer whose every token is one byte, so that any character beyond ASCII is torn."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {**{byte: chr(byte) for byte in printable}, **{byte: chr(256 + n) for n, byte in enumerate(others)}}
    texts = [alphabet[byte] for byte in range(256)] + ["<|im_start|>", "<|im_end|>"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.token_type": [1] * 256 + [3, 3],
        "tokenizer.ggml.eos_token_id": 257,
    }


@cache
def bytewise() -> ChatTokenizer:
    return ChatTokenizer(build_tokenizer(byte_level_metadata().get), ChatTemplate(CHATML, {}))


def detokenized(tokens: list[int]) -> list[str]:
    stream = bytewise().detokenizer()
    return [*map(stream.feed, tokens), stream.finish()]


@given(st.text(st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"])))
def test_text_comes_back_whole_and_never_in_half_characters(text: str) -> None:
    pieces = detokenized(list(text.encode()))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


@given(st.binary())
def test_any_bytes_decode_as_one_decoding_would(data: bytes) -> None:
    assert "".join(detokenized(list(data))) == data.decode(errors="replace")


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_strings_never_leak(text: str, stops: list[str], data: st.DataObject) -> None:
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    expected = text[: min(found)[1]] if found else text
    search, shown, rest = StopStrings(stops), "", text
    while rest and not search.found:
        size = data.draw(st.integers(1, len(rest)))
        shown += search.feed(rest[:size])
        rest = rest[size:]
        assert expected.startswith(shown)
    assert shown + ("" if search.found else search.finish()) == expected


def test_a_special_token_in_a_message_stays_text() -> None:
    tokens = bytewise().encode_chat([{"role": "user", "content": "a<|im_end|>b"}])
    assert tokens.count(257) == 1
    assert bytewise()._tokenizer.decode(tokens, skip_special_tokens=False) == (
        "<|im_start|>user\na<|im_end|>b<|im_end|>\n<|im_start|>assistant\n"
    )


def test_special_tokens_stay_text_however_deep_they_are_written() -> None:
    template = ChatTemplate("{{ messages | tojson }}<|im_end|>{{ tools | tojson }}", {})
    tokenizer = ChatTokenizer(build_tokenizer(byte_level_metadata().get), template)
    messages = [{"role": "user", "content": [{"text": "<|im_end|>"}], "\ue000": "\ue001"}]
    tools = [{"<|im_start|>": "<|im_end|>"}]
    tokens = tokenizer.encode_chat(messages, tools)
    assert [token for token in tokens if token > 255] == [257]
    assert tokenizer._tokenizer.decode(tokens, skip_special_tokens=False) == template.render(messages, tools)


def test_a_template_that_takes_a_message_apart_frees_no_special_token() -> None:
    template = ChatTemplate("{% for part in messages[0].content.split('b') %}{{ part }}<|im_end|>{% endfor %}", {})
    for content in ("<|im_end|>b<|im_end|>", "b<|im_end|><|im_start|>b", "<|im_b_end|>"):
        tokens = ChatTokenizer(build_tokenizer(byte_level_metadata().get), template).encode_chat([{"content": content}])
        assert [token for token in tokens if token > 255] == [257] * (content.count("b") + 1)


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["I", "'m", "\u0120x", "12345", "."]),
        ("smollm", ["I", "'m", "\u0120x", "1", "2", "3", "4", "5", "."]),
        ("llama-bpe", ["I", "'m", "\u0120x", "123", "45", "."]),
        ("qwen2", ["I", "'m", "\u0120x", "1", "2", "3", "4", "5", "."]),
    ],
)
def test_pre_tokenisers_split_words_and_digits(pre: str, expected: list[str]) -> None:
    tokenizer = build_tokenizer((byte_level_metadata() | {"tokenizer.ggml.pre": pre}).get)
    assert tokenizer.pre_tokenizer is not None
    found = [text for text, _ in tokenizer.pre_tokenizer.pre_tokenize_str("I'm x12345.")]
    assert found == expected


def test_a_special_token_in_a_raw_prompt_is_one() -> None:
    assert bytewise().encode_raw("a<|im_end|>") == [ord("a"), 257]


def test_stop_tokens_are_the_declared_and_the_known() -> None:
    metadata = byte_level_metadata()
    assert stop_tokens(metadata.get) == [257]
    assert stop_tokens((metadata | {"tokenizer.ggml.eos_token_id": 256}).get) == [256, 257]


def test_an_unknown_tokenizer_is_refused_by_name() -> None:
    with pytest.raises(ArtifactError, match="t5, default"):
        build_tokenizer({"tokenizer.ggml.model": "t5", "tokenizer.ggml.pre": "default"}.get)


def render(source: str, **message: Any) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}).render([{"role": "user", "content": "hi", **message}])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}{{ messages[0]['content'] }}", "<s>hi"),
        ("{% for m in messages %}\n  {{ m.role }}\n{% endfor %}", "  user\n"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "hi"}]'),
        ("{{ {'é': 1} | tojson(indent=2) }}", '{\n  "é": 1\n}'),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
    ],
)
def test_templates_render_as_transformers_renders_them(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ ().__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0]['content'] + 1 }}",
    ],
)
def test_a_template_that_refuses_or_escapes_is_a_bad_input(source: str) -> None:
    with pytest.raises(BadParameter, match="chat template refused"):
        render(source)


def test_a_template_that_does_not_compile_is_an_artifact_fault() -> None:
    with pytest.raises(ArtifactError):
        ChatTemplate("{% for %}", {})


@pytest.mark.weights
def test_the_stand_ins_chat_is_what_llama_cpp_makes_of_it() -> None:
    artifact = find_stand_in(ArtifactStore())
    assert artifact is not None, "run make setup"
    tokens = artifact.tokenizer().encode_chat([{"role": "user", "content": "What is the capital of France?"}])
    # From llama-cpp-python 0.3.36 on the same GGUF, special tokens parsed, no start token added.
    assert tokens == [
        *(1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182),
        *(2, 198, 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198),
    ]


@pytest.mark.weights
def test_the_stand_ins_tokenizer_equals_llama_cpps_on_varied_text() -> None:
    artifact = find_stand_in(ArtifactStore())
    assert artifact is not None, "run make setup"
    tokenizer = artifact.tokenizer()
    cases = json.loads((REFERENCE / "llama_cpp_tokens.json").read_text())
    assert len(cases) > 250
    assert [text for text, tokens in cases if tokenizer.encode_raw(text) != tokens] == []
