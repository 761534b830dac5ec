"""onnxruntime-genai as a peer: its builder's int4 model of the dequantised checkpoint.

Not the same weights: the builder quantises anew, the head to 4 bits too, so each token reads fewer bytes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime_genai as og

from tests.benchmarks.peer import STEPS, WARM

_MOST = 4_096  # tokens of context up to which it is asked: it reads them anew for every measurement
_FIRST, _LAST = 100, 40_000  # of the token ids that are drawn from


def build(checkpoint: Path, folder: Path) -> Path:
    """The builder's model for the CPU, made once; ``checkpoint`` is a Hugging Face folder."""
    if not (folder / "genai_config.json").exists():
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint), "-o", str(folder)]
        command += ["-p", "int4", "-e", "cpu", "-c", str(folder / "cache"), "--extra_options"]
        command += ["int4_block_size=32", "int4_accuracy_level=4"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


class GenAI:
    """A generator per measurement, greedy, with a static batch."""

    name = "genai"

    def __init__(self, folder: Path, threads: int, capacity: int) -> None:
        config = og.Config(str(folder))
        config.overlay(f'{{"model": {{"decoder": {{"session_options": {{"intra_op_num_threads": {threads}}}}}}}}}')
        self._model = og.Model(config)
        self._capacity = capacity
        self._random = np.random.default_rng(1)

    def decode(self, rows: int, context: int) -> float | None:
        """Tokens per second over all rows, one token each at a time."""
        if rows * context > _MOST:
            return None
        generator = self._start(rows, context)
        for _ in range(WARM):
            generator.generate_next_token()
        started = time.perf_counter()
        for _ in range(STEPS):
            generator.generate_next_token()
        return rows * STEPS / (time.perf_counter() - started)

    def prefill(self, tokens: int) -> float:
        """Prompt tokens per second, the last one's logits computed."""
        started = time.perf_counter()
        self._start(1, tokens)
        return tokens / (time.perf_counter() - started)

    def _start(self, rows: int, context: int) -> og.Generator:
        parameters = og.GeneratorParams(self._model)
        # A stop token mustn't end a row in the middle of the measurement.
        parameters.set_search_options(
            batch_size=rows, max_length=self._capacity, min_length=self._capacity, do_sample=False
        )
        generator = og.Generator(self._model, parameters)
        generator.append_tokens(self._random.integers(_FIRST, _LAST, (rows, context)).astype(np.int32))
        return generator
