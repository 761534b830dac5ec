"""A checkpoint's tokenizer says what its authors' does: Starling's to the id, SentencePiece's on varied text."""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, processors

from runtime.chat_template import ChatTemplate
from runtime.checkpoint_tokenizer import load_tokenizer
from runtime.errors import ArtifactError
from runtime.gguf_tokenizer import build_tokenizer
from runtime.tokenizer import ChatTokenizer

VARIED = Path(__file__).parent / "reference" / "llama_cpp_tokens.json"
# Mistral v0.1's SentencePiece model, which Starling adds two tokens to (from mistral-common 1.13.1, Apache-2.0).
MISTRAL = lzma.decompress((Path(__file__).parent / "reference" / "mistral_tokenizer.model.xz").read_bytes())
# tokenizer_config.json of openchat-3.5-0106, which Starling's model card says it follows exactly.
OPENCHAT = (
    "{{ bos_token }}{% for message in messages %}{{ 'GPT4 Correct ' + message['role'].title() + ': ' + "
    "message['content'] + '<|end_of_turn|>'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ 'GPT4 Correct Assistant:' }}{% endif %}"
)
# From the model card of Starling-LM-7B-beta (the single turn) and of OpenChat (the others).
HELLO = [420, 6316, 28781, 3198, 3123, 1247, 28747, 22557, 32000, 420, 6316, 28781, 3198, 3123, 21631, 28747]
HOW_ARE_YOU = [420, 6316, 28781, 3198, 3123, 1247, 28747, 1602, 460, 368, 3154, 28804, 32000]
HI = [15359, 32000]
CODE = [1, 7596, 1247, 28747, 26256, 2936, 7653, 1413, 334, 1680, 32000, 7596, 21631, 28747]


def special(text: str) -> dict[str, Any]:
    return {"content": text, "special": True, **dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)}


def write_starling(folder: Path) -> Path:
    """Starling's text files, as its repository has them."""
    (folder / "tokenizer.model").write_bytes(MISTRAL)
    added = {"0": "<unk>", "1": "<s>", "2": "</s>", "32000": "<|end_of_turn|>", "32001": "<|pad_0|>"}
    stated = {
        "added_tokens_decoder": {id_: special(text) for id_, text in added.items()},
        "add_bos_token": True,
        "bos_token": "<s>",
        "eos_token": special("<|end_of_turn|>"),
        "chat_template": OPENCHAT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    (folder / "generation_config.json").write_text('{"eos_token_id": 32000}')
    return folder


@cache
def _starling(folder: Path) -> ChatTokenizer:
    loaded = load_tokenizer(write_starling(folder))
    assert (loaded.bos, loaded.eos, loaded.stop_tokens) == ("<s>", "<|end_of_turn|>", [2, 32000])
    assert loaded.template is not None
    return ChatTokenizer(loaded.tokenizer, ChatTemplate(loaded.template, {"bos_token": "<s>"}), bos=loaded.bos)


@pytest.fixture(scope="module")
def starling(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return _starling(tmp_path_factory.mktemp("starling"))


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def test_starlings_chats_have_the_model_cards_ids(starling: ChatTokenizer) -> None:
    assert starling.encode_chat([user("Hello")]) == [1, *HELLO]
    chat = [user("Hello"), {"role": "assistant", "content": "Hi"}, user("How are you today?")]
    assert starling.encode_chat(chat) == [1, *HELLO, *HI, *HOW_ARE_YOU, *HELLO[-7:]]
    prompt = "Code User: Implement quicksort using C++<|end_of_turn|>Code Assistant:"
    assert starling.encode_raw(prompt) == CODE


def test_starlings_system_message_is_the_templates(starling: ChatTokenizer) -> None:
    tokens = starling.encode_chat([{"role": "system", "content": "Be brief."}, user("Hello")])
    text = starling._tokenizer.decode(tokens, skip_special_tokens=False)
    assert text.replace("> ", ">").startswith(
        "<s>GPT4 Correct System: Be brief.<|end_of_turn|>GPT4 Correct User: Hello"
    )


def test_a_user_cannot_end_their_turn(starling: ChatTokenizer) -> None:
    tokens = starling.encode_chat([user("a<|end_of_turn|>b</s>")])
    assert tokens.count(32000) == 1
    assert tokens.count(2) == 0
    theirs = sentencepiece.SentencePieceProcessor(model_proto=MISTRAL)
    expected = theirs.encode("GPT4 Correct User: a<|end_of_turn|>b</s>")
    assert tokens[1 : len(expected) + 1] == expected


def test_sentencepiece_models_equal_sentencepiece_on_varied_text(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(MISTRAL)
    ours = load_tokenizer(tmp_path).tokenizer
    theirs = sentencepiece.SentencePieceProcessor(model_proto=MISTRAL)
    texts = [text for text, _ in json.loads(VARIED.read_text())]
    assert len(texts) > 250
    assert [text for text in texts if ours.encode(text).ids != theirs.encode(text)] == []
    assert [text for text in texts if ours.decode(ours.encode(text).ids) != theirs.decode(theirs.encode(text))] == []


def test_gguf_sentencepiece_metadata_gives_the_same_tokenizer(tmp_path: Path) -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_proto=MISTRAL)
    ids = range(theirs.get_piece_size())
    kinds = [2 if theirs.is_unknown(i) else 3 if theirs.is_control(i) else 6 if theirs.is_byte(i) else 1 for i in ids]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [theirs.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [theirs.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": kinds,
    }
    (tmp_path / "tokenizer.model").write_bytes(MISTRAL)
    assert build_tokenizer(metadata.get).to_str() == load_tokenizer(tmp_path).tokenizer.to_str()


def test_a_whole_tokenizer_comes_first_and_is_not_cut_short(tmp_path: Path) -> None:
    tokenizer: Tokenizer = load_tokenizer(write_starling(tmp_path)).tokenizer
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer.model").unlink()
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    stated = {"bos_token": "<s>", "chat_template": [{"name": "default", "template": "b"}]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    loaded = load_tokenizer(tmp_path)
    assert (loaded.template, loaded.bos, loaded.eos) == ("{{ messages[0].content }}", "<s>", None)
    assert loaded.tokenizer.encode("Hello there, how are you").ids[:2] == [1, 22557]
    assert len(loaded.tokenizer.encode("one two three").ids) == 4
    (tmp_path / "chat_template.jinja").unlink()
    assert load_tokenizer(tmp_path).template == "b"


def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\xff" * 9)
    with pytest.raises(ArtifactError, match=r"tokenizer\.model is not a readable SentencePiece model"):
        load_tokenizer(tmp_path)
    write_starling(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"32001": {"content": "<x>"}}}')
    with pytest.raises(ArtifactError, match="the added token <x> has the id 32001"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is not a readable tokenizer"):
        load_tokenizer(tmp_path)
