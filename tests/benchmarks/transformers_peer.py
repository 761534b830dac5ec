"""transformers as the slow reference: the dequantised checkpoint in float32 on PyTorch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.benchmarks.peer import STEPS, WARM

_LONGEST = 128  # tokens of context up to which it is asked: the rest would take most of the run
_FIRST, _LAST = 100, 40_000  # of the token ids that are drawn from


def dequantise(gguf: Path, folder: Path) -> Path:
    """The GGUF's weights as a float32 checkpoint with its tokenizer, made once."""
    if not (folder / "tokenizer.json").exists():
        transformers.utils.logging.set_verbosity_error()
        load = {"gguf_file": gguf.name}
        model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **load)
        model.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(gguf.parent, **load).save_pretrained(folder)
    return folder


class Transformers:
    """Forward passes with the library's own growing cache."""

    name = "transformers"

    def __init__(self, checkpoint: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()

    def decode(self, rows: int, context: int) -> float | None:
        """Tokens per second over all rows, one token each at a time."""
        if context > _LONGEST:
            return None
        cache = self._read(rows, context)
        for _ in range(WARM):
            cache = self._step(rows, cache)
        started = time.perf_counter()
        for _ in range(STEPS):
            cache = self._step(rows, cache)
        return rows * STEPS / (time.perf_counter() - started)

    def prefill(self, tokens: int) -> float:
        """Prompt tokens per second, the last one's logits computed."""
        started = time.perf_counter()
        self._read(1, tokens)
        return tokens / (time.perf_counter() - started)

    def _read(self, rows: int, tokens: int) -> Any:
        ids = torch.randint(_FIRST, _LAST, (rows, tokens))
        mask = torch.ones_like(ids)
        return self._model(ids, attention_mask=mask, use_cache=True, logits_to_keep=1).past_key_values

    def _step(self, rows: int, cache: Any) -> Any:
        ids = torch.randint(_FIRST, _LAST, (rows, 1))
        return self._model(ids, past_key_values=cache, use_cache=True).past_key_values
