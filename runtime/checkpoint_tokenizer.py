"""A Hugging Face checkpoint's tokenizer: ``tokenizer.json`` or ``tokenizer.model``, its template and its stop tokens.

Source: transformers' ``tokenization_utils_base.py`` (4.57) for where each of them may lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from runtime.errors import ArtifactError
from runtime.json_file import json_object
from runtime.sentencepiece_tokenizer import read_sentencepiece
from runtime.tokenizer import END_OF_TURN


@dataclass(frozen=True, slots=True)
class CheckpointTokenizer:
    """What a checkpoint says of its text. ``bos``: what texts, or chats by the template, begin with."""

    tokenizer: Tokenizer
    template: str | None
    bos: str | None
    eos: str | None
    stop_tokens: list[int]


def load_tokenizer(folder: Path) -> CheckpointTokenizer:
    """The tokenizer of the checkpoint in ``folder``; :class:`ArtifactError` in one sentence if there is none."""
    stated = json_object(folder / "special_tokens_map.json") | json_object(folder / "tokenizer_config.json")
    tokenizer = _tokenizer(folder, stated)
    template = _template(folder, stated)
    bos, eos = _text(stated.get("bos_token")), _text(stated.get("eos_token"))
    begins = bool(tokenizer.encode("").ids) or stated.get("add_bos_token") is True
    wanted = begins or "bos_token" in (template or "")
    return CheckpointTokenizer(tokenizer, template, bos if wanted else None, eos, _stops(folder, tokenizer, eos))


def _tokenizer(folder: Path, stated: Mapping[str, Any]) -> Tokenizer:
    whole, model = folder / "tokenizer.json", folder / "tokenizer.model"
    if whole.exists():
        try:
            tokenizer = Tokenizer.from_file(str(whole))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ArtifactError(f"{whole.name} is not a readable tokenizer: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer
    if not model.exists():
        raise ArtifactError(f"{folder} holds neither {whole.name} nor {model.name}")
    tokenizer = read_sentencepiece(model)
    for id_, token in sorted(_added(folder, stated).items()):
        add = tokenizer.add_special_tokens if token.special else tokenizer.add_tokens
        add([token])
        if tokenizer.token_to_id(token.content) != id_:
            raise ArtifactError(f"the added token {token.content} has the id {id_}, which isn't the next one free")
    return tokenizer


def _added(folder: Path, stated: Mapping[str, Any]) -> dict[int, AddedToken]:
    """The tokens that a checkpoint adds to its SentencePiece model, by id."""
    if described := stated.get("added_tokens_decoder"):
        return {int(id_): AddedToken(**token) for id_, token in described.items()}
    ids = json_object(folder / "added_tokens.json")
    return {int(id_): AddedToken(text, normalized=False, special=True) for text, id_ in ids.items()}


def _template(folder: Path, stated: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = stated.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
    return None if template is None else str(template)


def _stops(folder: Path, tokenizer: Tokenizer, eos: str | None) -> list[int]:
    """Ids that end an answer: the declared end tokens, and special tokens known to end a turn."""
    ids: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        declared = json_object(folder / name).get("eos_token_id")
        ids |= set(declared if isinstance(declared, list) else [] if declared is None else [declared])
    added = tokenizer.get_added_tokens_decoder().items()
    ids |= {id_ for id_, token in added if token.special and token.content in END_OF_TURN}
    if eos is not None and (id_ := tokenizer.token_to_id(eos)) is not None:
        ids.add(id_)
    return sorted(ids)


def _text(token: Any) -> str | None:
    """A special token's text, which files state bare or as an object."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return None if token is None else str(token)
