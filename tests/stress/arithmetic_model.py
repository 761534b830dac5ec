"""The arithmetic model as an artifact that a whole roost serves: its tokens are single characters.

Every answer is a closed form of its prompt, computed in microseconds, so that hundreds of clients can be told what they
must hear, to the letter.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from runtime.artifacts import (
    BUILDER_VERSION,
    DECODER,
    MANIFEST,
    TOKENIZER,
    ArtifactStore,
    Manifest,
    artifact_key,
    file_record,
)
from runtime.config import DecoderShape
from tests.models.arithmetic import VOCAB, continuation, write_arithmetic_decoder
from tests.worker.asking import MODEL

CHARACTERS = "".join(map(chr, range(0x20, 0x7F))) + "\n\t"
FAILS, STARVES = "\x7e", "\x60"
"""``~`` makes a step raise in ONNX Runtime, a backtick makes it run out of memory; answers avoid neither."""
CONTEXT = 512
"""Up to here float32 holds every sum exactly."""


def write_arithmetic_artifact(root: Path, model: str = MODEL, *, traps: bool = False) -> ArtifactStore:
    """A store at ``root`` in which the arithmetic model answers for ``model``; with ``traps``, some steps fail."""
    store = ArtifactStore(root)
    at = {"fails_at": CHARACTERS.index(FAILS), "starves_at": CHARACTERS.index(STARVES)} if traps else {}
    with store.making(artifact_key(model)) as folder:
        write_arithmetic_decoder(folder / DECODER, **at)
        tokenizer().save(str(folder / TOKENIZER))
        manifest = Manifest(
            builder=BUILDER_VERSION,
            weights="arithmetic",
            precision="fp32",
            stand_in=False,
            answers=model,
            source="tests/models/arithmetic.py",
            source_sha256="",
            license="Apache-2.0",
            shape=DecoderShape(1, 1, 1, 1, 1, 1, VOCAB, CONTEXT, 10_000.0, 1e-5),
            stop_tokens=(),
            bos_token=None,
            eos_token=None,
            files={path.name: file_record(path) for path in sorted(folder.iterdir())},
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
    return store


def tokenizer() -> Tokenizer:
    """A token for each character, by its place in :data:`CHARACTERS`."""
    spelled = {" ": "\u0120", "\n": "\u010a", "\t": "\u0109"}  # as byte-level tokenizers write them
    vocabulary = {spelled.get(character, character): place for place, character in enumerate(CHARACTERS)}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def answer_to(prompt: str, count: int) -> str:
    """The greedy answer to ``prompt``: the oracle."""
    tokens = continuation([CHARACTERS.index(character) for character in prompt], count)
    return "".join(CHARACTERS[token] for token in tokens)
