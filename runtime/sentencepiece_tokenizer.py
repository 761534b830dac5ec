"""SentencePiece BPE vocabularies as ``tokenizers`` tokenizers: from a ``tokenizer.model`` or from GGUF metadata.

SentencePiece joins whichever neighbours make the best-scored piece; as merges, best score first, that is the same.
Source: sentencepiece_model.proto, and transformers' ``convert_slow_tokenizer.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from runtime.errors import ArtifactError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # the piece types of the proto, and GGUF's
_BPE = 2  # TrainerSpec.ModelType
_SPACE = "\u2581"


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of a vocabulary; its place is its id."""

    text: str
    score: float
    kind: int


def read_sentencepiece(path: Path) -> Tokenizer:
    """The tokenizer of a ``tokenizer.model``. Raises :class:`ArtifactError` for one that isn't plain BPE."""
    proto: Any = sentencepiece_model_pb2  # its classes are made when it is imported
    model = proto.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise ArtifactError(f"{path.name} is not a readable SentencePiece model: {error}") from error
    norm = model.normalizer_spec
    if model.trainer_spec.model_type != _BPE or norm.precompiled_charsmap or norm.remove_extra_whitespaces:
        raise ArtifactError(f"{path.name} is a SentencePiece model that isn't served: BPE that keeps its text is")
    pieces = [Piece(piece.piece, piece.score, piece.type) for piece in model.pieces]
    return build_sentencepiece(pieces, space_prefix=norm.add_dummy_prefix)


def build_sentencepiece(pieces: Sequence[Piece], *, space_prefix: bool) -> Tokenizer:
    """The tokenizer of a BPE vocabulary; ``space_prefix``: every text begins with a space that is read, not written."""
    vocabulary = {piece.text: id_ for id_, piece in enumerate(pieces)}
    unknown = next((piece.text for piece in pieces if piece.kind == UNKNOWN), None)
    model = BPE(vocabulary, _merges(pieces, vocabulary), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    prefix: list[normalizers.Normalizer] = [normalizers.Prepend(_SPACE)] if space_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", _SPACE)])
    first_space: list[decoders.Decoder] = [decoders.Strip(" ", 1, 0)] if space_prefix else []
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *first_space]
    tokenizer.decoder = decoders.Sequence(steps)
    special = [piece.text for piece in pieces if piece.kind in (UNKNOWN, CONTROL)]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    users = [piece.text for piece in pieces if piece.kind == USER_DEFINED]
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in users])
    return tokenizer


def _merges(pieces: Sequence[Piece], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, best piece first."""
    merges: list[tuple[float, str, str]] = []
    for piece in pieces:
        if piece.kind != NORMAL:
            continue
        halves = ((piece.text[:cut], piece.text[cut:]) for cut in range(1, len(piece.text)))
        known = [(left, right) for left, right in halves if left in vocabulary and right in vocabulary]
        known.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        merges += [(piece.score, left, right) for left, right in known]
    merges.sort(key=lambda merge: -merge[0])  # stable
    return [(left, right) for _, left, right in merges]
