"""A GGUF file's tokenizer metadata as a ``tokenizers`` tokenizer. Equal to llama.cpp's, or refused.

Source: llama.cpp's llama-vocab.cpp, whose pre-tokeniser for ``smollm`` splits digits one by one before GPT-2's
pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from runtime.errors import ArtifactError

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types
_END_OF_TURN = {"<|im_end|>", "<|endoftext|>", "<|end_of_turn|>", "<|eot_id|>", "<end_of_turn>", "</s>"}


def build_tokenizer(metadata: Callable[[str], Any]) -> Tokenizer:
    """The tokenizer that ``metadata`` (a lookup of GGUF keys) describes; :class:`ArtifactError` if unknown."""
    model, pre = metadata("tokenizer.ggml.model"), metadata("tokenizer.ggml.pre")
    if model != "gpt2" or pre not in ("smollm", "gpt-2"):
        raise ArtifactError(f"the GGUF file's tokenizer ({model}, {pre}) isn't served; gpt2 with smollm or gpt-2 is")
    texts: list[str] = metadata("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in metadata("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(BPE({text: id_ for id_, text in enumerate(texts)}, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level]) if pre == "smollm" else byte_level
    tokenizer.decoder = decoders.ByteLevel()
    types: list[int] = metadata("tokenizer.ggml.token_type")
    tokenizer.add_special_tokens(_added(texts, types, _CONTROL))
    tokenizer.add_tokens(_added(texts, types, _USER_DEFINED))
    return tokenizer


def stop_tokens(metadata: Callable[[str], Any]) -> list[int]:
    """Ids that end an answer: the declared end tokens, and control tokens known to end a turn."""
    texts, types = metadata("tokenizer.ggml.tokens"), metadata("tokenizer.ggml.token_type")
    declared = {metadata(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")}
    known = {id_ for id_, text in enumerate(texts) if types[id_] == _CONTROL and text in _END_OF_TURN}
    return sorted(known | {id_ for id_ in declared if id_ is not None})


def _added(texts: list[str], types: list[int], kind: int) -> list[AddedToken]:
    special = kind == _CONTROL
    return [
        AddedToken(text, normalized=False, special=special)
        for text, its_kind in zip(texts, types, strict=True)
        if its_kind == kind
    ]
