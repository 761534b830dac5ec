"""A checkpoint's tokenizer, chat template and end tokens, from the files beside its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from runtime.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class CheckpointTokenizer:
    """What a checkpoint says about text. ``bos``: the token a raw prompt starts with, where the model wants one."""

    tokenizer: Tokenizer
    template: str | None
    bos: str | None
    eos: str | None
    stop_tokens: list[int]


def load_tokenizer(folder: Path) -> CheckpointTokenizer:
    """The tokenizer of the checkpoint in ``folder``; :class:`ArtifactError` if it has none that is served."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ArtifactError(f"{folder} holds no tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
        stated = _json(folder / "tokenizer_config.json")
        ends = _json(folder / "generation_config.json").get("eos_token_id")
    except Exception as error:  # tokenizers raises nothing narrower
        raise ArtifactError(f"the tokenizer in {folder} can't be read: {error}") from error
    template = folder / "chat_template.jinja"
    chat = template.read_text(encoding="utf-8") if template.is_file() else stated.get("chat_template")
    bos, eos = _text(stated.get("bos_token")), _text(stated.get("eos_token"))
    stops = {*(ends if isinstance(ends, list) else [ends]), tokenizer.token_to_id(eos) if eos else None}
    return CheckpointTokenizer(tokenizer, chat, bos, eos, sorted(stop for stop in stops if stop is not None))


def _json(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return read


def _text(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token
