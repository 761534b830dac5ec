"""llama.cpp as a peer in the benchmark: parallel sequences through its C API."""

from __future__ import annotations

import time
from pathlib import Path

import llama_cpp as c
import numpy as np

from tests.benchmarks.peer import STEPS, WARM


@c.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: object) -> None:
    """llama.cpp's log, left out."""


class LlamaCpp:
    """One model and one context of as many sequences as rows are measured.

    ``use_extra_bufts`` is off where there is AMX: with repacked weights llama.cpp 0.3.36 crashes there in every batch
    of more than one token (ggml-org/llama.cpp#20824).
    """

    name = "llama.cpp"

    def __init__(self, gguf: Path, threads: int, capacity: int, sequences: int) -> None:
        c.llama_log_set(_silent, None)
        c.llama_backend_init()
        model_params = c.llama_model_default_params()
        model_params.use_extra_bufts = "amx_int8" not in Path("/proc/cpuinfo").read_text()
        params = c.llama_context_default_params()
        params.n_ctx, params.n_seq_max = capacity * sequences, sequences
        params.n_threads = params.n_threads_batch = threads
        params.n_batch, params.n_ubatch = 2048, 512
        self._model = c.llama_model_load_from_file(str(gguf).encode(), model_params)
        self._context = c.llama_init_from_model(self._model, params)
        self._memory = c.llama_get_memory(self._context)
        self._random = np.random.default_rng(1)
        self._held = [0] * sequences

    def decode(self, rows: int, context: int) -> float:
        """Tokens per second over all rows, one token each at a time."""
        for row in range(rows):
            self._fill(row, context)
        for step in range(WARM):
            self._run([(context + step, row, True) for row in range(rows)])
        started = time.perf_counter()
        for step in range(WARM, WARM + STEPS):
            self._run([(context + step, row, True) for row in range(rows)])
        return rows * STEPS / (time.perf_counter() - started)

    def prefill(self, tokens: int) -> float:
        """Prompt tokens per second, the last one's logits computed."""
        self._clear(0, 0)
        started = time.perf_counter()
        self._run([(place, 0, place == tokens - 1) for place in range(tokens)])
        speed = tokens / (time.perf_counter() - started)
        self._held[0] = tokens
        return speed

    def _fill(self, row: int, context: int) -> None:
        """Bring a row to ``context`` tokens: shorten what it holds, or read on."""
        self._clear(row, min(context, self._held[row]))
        missing = range(self._held[row], context)
        if missing:
            self._run([(place, row, False) for place in missing])
        self._held[row] = context

    def _clear(self, row: int, kept: int) -> None:
        c.llama_memory_seq_rm(self._memory, row, kept, -1)
        self._held[row] = kept

    def _run(self, items: list[tuple[int, int, bool]]) -> None:
        """Decode a batch of (position, sequence, whether its logits are wanted), with random tokens."""
        batch = c.llama_batch_init(len(items), 0, 1)
        for place, (position, row, wanted) in enumerate(items):
            batch.token[place] = int(self._random.integers(100, 40_000))
            batch.pos[place], batch.logits[place] = position, wanted
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
        batch.n_tokens = len(items)
        status = c.llama_decode(self._context, batch)
        c.llama_batch_free(batch)
        if status:
            raise RuntimeError(f"llama_decode: {status}")
