"""A GGUF file's tokenizer metadata as a ``tokenizers`` tokenizer. Equal to llama.cpp's, or refused.

Source: llama.cpp's llama-vocab.cpp for the patterns: ``smollm`` splits digits one by one before GPT-2's pattern,
``llama-bpe`` takes them by three, and whole words of the vocabulary without merging.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from runtime.errors import ArtifactError
from runtime.sentencepiece_tokenizer import CONTROL, USER_DEFINED, Piece, build_sentencepiece
from runtime.tokenizer import END_OF_TURN

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WHOLE_WORDS = "llama-bpe"


def build_tokenizer(metadata: Callable[[str], Any]) -> Tokenizer:
    """The tokenizer that ``metadata`` (a lookup of GGUF keys) describes; :class:`ArtifactError` if unknown."""
    model, pre = metadata("tokenizer.ggml.model"), metadata("tokenizer.ggml.pre")
    texts: list[str] = metadata("tokenizer.ggml.tokens")
    types: list[int] = metadata("tokenizer.ggml.token_type")
    if model == "llama":
        scores = metadata("tokenizer.ggml.scores")
        pieces = [Piece(*entry) for entry in zip(texts, scores, types, strict=True)]
        return build_sentencepiece(pieces, space_prefix=metadata("tokenizer.ggml.add_space_prefix") is not False)
    if model != "gpt2" or pre not in _SPLITTERS:
        known = ", ".join(_SPLITTERS)
        raise ArtifactError(
            f"the GGUF file's tokenizer ({model}, {pre}) isn't served; llama, and gpt2 with {known} are"
        )
    merges = [tuple(merge.split(" ", 1)) for merge in metadata("tokenizer.ggml.merges")]
    vocabulary = {text: id_ for id_, text in enumerate(texts)}
    tokenizer = Tokenizer(BPE(vocabulary, merges, ignore_merges=pre == _WHOLE_WORDS))
    tokenizer.pre_tokenizer = _SPLITTERS[pre]()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_added(texts, types, CONTROL))
    tokenizer.add_tokens(_added(texts, types, USER_DEFINED))
    return tokenizer


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _words(digits: str) -> pre_tokenizers.PreTokenizer:
    """Words, and as many digits at a time as the quantifier ``digits`` takes."""
    split = pre_tokenizers.Split(Regex(_WORDS % digits), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_SPLITTERS: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "gpt-2": _gpt2,
    "smollm": _smollm,
    "llama-bpe": lambda: _words("{1,3}"),
    "qwen2": lambda: _words(""),
}


def stop_tokens(metadata: Callable[[str], Any]) -> list[int]:
    """Ids that end an answer: the declared end tokens, and control tokens known to end a turn."""
    texts, types = metadata("tokenizer.ggml.tokens"), metadata("tokenizer.ggml.token_type")
    declared = {metadata(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")}
    known = {id_ for id_, text in enumerate(texts) if types[id_] == CONTROL and text in END_OF_TURN}
    return sorted(known | {id_ for id_ in declared if id_ is not None})


def _added(texts: list[str], types: list[int], kind: int) -> list[AddedToken]:
    special = kind == CONTROL
    return [
        AddedToken(text, normalized=False, special=special)
        for text, its_kind in zip(texts, types, strict=True)
        if its_kind == kind
    ]
