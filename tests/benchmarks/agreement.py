"""Does the decoder choose the tokens that others choose? Top-1 agreement with llama.cpp and with PyTorch.

Run by with_peers.sh (``make agreement``). PyTorch answers ten chats with 64 tokens each. Every side reads the same
chats and answers, and at each token of an answer what it would have said is compared. The served graph rounds
activations to int8, as llama.cpp does with the same GGUF file; the exact graph computes in float32, as PyTorch does
with the weights that transformers' own reader of GGUF decodes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from runtime.artifacts import Artifact, ArtifactStore
from runtime.decoder_graph import write_decoder
from runtime.device import Device, usable_cores
from runtime.gguf_weights import GgufWeights
from runtime.linear_graph import EXACT
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from runtime.stand_in import GGUF_NAME, find_stand_in

Choices = NDArray[np.int64]  # [texts, LENGTH]
Read = Callable[[int, Sequence[int]], int]
"""Reads tokens, the first at a position (0 starts a new text); the likeliest next token."""

LENGTH = 64
CONTEXT = 256
LLAMA_CPP_BOUND = 0.96
PYTORCH_BOUND = 0.999
PROMPTS = (
    "Tell me a short story about a lighthouse keeper and her dog.",
    "Write a Python function that returns the ten most common words of a text file.",
    "Schreibe einen kurzen Brief an meine Nachbarin über den Garten.",
    "请介绍一下北京的历史和文化。",
    "List the first thirty prime numbers, separated by commas.",
    "Hi! My train leaves at seven and it looks like rain. What should I wear?",
    "Give me a recipe for a simple loaf of bread, step by step.",
    "Explica qué es la fotosíntesis y por qué es importante.",
    "Write an HTML page with the opening hours of a small library.",
    "A shop sells pens at 3 dollars and books at 12. I buy 7 pens and 4 books. How much is that? Show the steps.",
)


@dataclass(frozen=True)
class Text:
    """A chat and the answer to it, in tokens."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True)
class Comparison:
    """Choices of two sides, and the share of positions at which they must agree, if there is a bound."""

    sides: str
    ours: Choices
    theirs: Choices
    bound: float | None = None

    @property
    def agreeing(self) -> int:
        return int((self.ours == self.theirs).sum())

    @property
    def share(self) -> float:
        return self.agreeing / self.ours.size

    @property
    def holds(self) -> bool:
        return self.bound is None or self.share >= self.bound

    def __str__(self) -> str:
        bound = "" if self.bound is None else f"{self.bound:9.1%}  {'holds' if self.holds else 'BROKEN'}"
        return f"{self.sides:30}{self.agreeing:5} of {self.ours.size}{self.share:10.2%}{bound}"


def main() -> int:
    """Print the table of agreements; 1 if a bound is broken."""
    store = ArtifactStore()
    artifact, gguf = find_stand_in(store), store.downloads / GGUF_NAME
    if artifact is None or not gguf.exists():
        raise SystemExit("the stand-in isn't here: type roost pull --stand-in")
    texts, pytorch = _pytorch_answers(gguf, artifact)
    llama = _llama_cpp_choices(gguf, texts)
    served, exact = _onnxruntime_choices(artifact.decoder, texts), _exact_choices(gguf, texts)
    comparisons = [
        Comparison("served graph with llama.cpp", served, llama, LLAMA_CPP_BOUND),
        Comparison("exact graph with PyTorch", exact, pytorch, PYTORCH_BOUND),
        Comparison("(served graph with PyTorch)", served, pytorch),
        Comparison("(llama.cpp with PyTorch)", llama, pytorch),
    ]
    print(f"{'top-1 agreement':30}{'positions':>12}{'share':>10}{'bound':>9}")
    print(*comparisons, sep="\n")
    return 0 if all(comparison.holds for comparison in comparisons) else 1


def _pytorch_answers(gguf: Path, artifact: Artifact) -> tuple[list[Text], Choices]:
    """The texts that every side reads, and PyTorch's choices in them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = artifact.tokenizer()
    prompts = [tokenizer.encode_chat([{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    texts = [Text(prompt, _pytorch_answer(model, prompt)) for prompt in prompts]
    return texts, np.array([_pytorch_choices(model, text) for text in texts], np.int64)


def _pytorch_answer(model: Any, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    # Without a mask transformers infers one from the padding token, which ends every message here.
    said = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=LENGTH, max_new_tokens=LENGTH
    )
    answer: list[int] = said[0, len(prompt) :].tolist()
    return answer


def _pytorch_choices(model: Any, text: Text) -> list[int]:
    ids = torch.tensor([[*text.prompt, *text.answer[:-1]]])
    with torch.no_grad():
        logits = model(ids, attention_mask=torch.ones_like(ids)).logits[0]
    choices: list[int] = logits[-LENGTH:].argmax(-1).tolist()
    return choices


def _choices(read: Read, texts: list[Text]) -> Choices:
    """What ``read`` would have said at each token of the answers: the prompt in one go, then token by token."""
    return np.array([_choices_in(read, text) for text in texts], np.int64)


def _choices_in(read: Read, text: Text) -> list[int]:
    rest = enumerate(text.answer[:-1], start=len(text.prompt))
    return [read(0, text.prompt), *(read(position, [token]) for position, token in rest)]


def _onnxruntime_choices(decoder: Path, texts: list[Text]) -> Choices:
    session = DecoderSession(decoder, slots=1, capacity=CONTEXT, device=Device())

    def read(start: int, tokens: Sequence[int]) -> int:
        plan = StepPlan((), (), Span(0, 0, start, tuple(tokens), samples=True))
        return int(session.run(plan).argmax())

    choices = _choices(read, texts)
    session.close()
    return choices


def _exact_choices(gguf: Path, texts: list[Text]) -> Choices:
    with tempfile.TemporaryDirectory() as folder:
        decoder = Path(folder) / "decoder.onnx"
        write_decoder(decoder, GgufWeights(gguf), EXACT)
        return _onnxruntime_choices(decoder, texts)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: Any) -> None:
    """llama.cpp's log, left out."""


def _llama_cpp_choices(gguf: Path, texts: list[Text]) -> Choices:
    """Through llama.cpp's C functions."""
    llama_cpp.llama_log_set(_silent, None)
    context = _llama_cpp_context(gguf)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(llama_cpp.llama_get_model(context)))

    def read(start: int, tokens: Sequence[int]) -> int:
        if start == 0:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        array = (llama_cpp.llama_token * len(tokens))(*tokens)  # must live until it is read: a batch holds its address
        if failure := llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(tokens))):
            raise RuntimeError(f"llama_decode returned {failure}")
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, (vocab,)).argmax())

    return _choices(read, texts)


def _llama_cpp_context(gguf: Path) -> Any:
    model_parameters = llama_cpp.llama_model_default_params()
    # Repacked for AMX, weights end in a segmentation fault on some machines: ggml-org/llama.cpp#20824.
    model_parameters.use_extra_bufts = False
    model = llama_cpp.llama_model_load_from_file(str(gguf).encode(), model_parameters)
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = CONTEXT
    parameters.n_threads = parameters.n_threads_batch = usable_cores()
    return llama_cpp.llama_init_from_model(model, parameters)


if __name__ == "__main__":
    sys.exit(main())
