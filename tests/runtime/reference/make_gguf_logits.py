"""Makes gguf_logits.npz: what llama.cpp computes with the tiny checkpoints as GGUF files. Knows nothing of Roost.

``make gguf-reference`` compares them with those in the repository, in the environment of the benchmarks' peers; with
``--write`` it replaces them. Float32 throughout; flash attention off, for it rounds to float16.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp as c
import numpy as np

from tests.runtime.reference.tiny_gguf import GGUF_NAMES, LENGTH, tokens, write_gguf

COMMITTED = Path(__file__).with_name("gguf_logits.npz")
TOLERANCE = 1e-3


@c.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: object) -> None:
    """llama.cpp's log, left out."""


def main() -> None:
    """Compute, compare, and with ``--write`` replace."""
    c.llama_log_set(_silent, None)
    c.llama_backend_init()
    found: dict[str, Any] = {name: _logits(name) for name in GGUF_NAMES}
    if "--write" in sys.argv:
        np.savez_compressed(COMMITTED, **found)
    with np.load(COMMITTED) as committed:
        assert sorted(found) == sorted(committed.files), "other checkpoints than those in the repository"
        for name, logits in found.items():
            np.testing.assert_allclose(logits, committed[name], rtol=0, atol=TOLERANCE, err_msg=name)
    print(f"{len(found)} GGUF files agree with {COMMITTED.name}")


def _logits(name: str) -> Any:
    """Float32 ``[LENGTH, vocab]``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.gguf"
        write_gguf(path, name)
        model_params = c.llama_model_default_params()
        model_params.use_extra_bufts = False
        model = c.llama_model_load_from_file(str(path).encode(), model_params)
        assert model, f"llama.cpp can't load {name}"
        return _read(model)


def _read(model: Any) -> Any:
    params = c.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 64
    params.type_k = params.type_v = 0  # float32
    params.flash_attn_type = 0
    context = c.llama_init_from_model(model, params)
    batch = c.llama_batch_init(LENGTH, 0, 1)
    for place, token in enumerate(tokens()):
        batch.token[place], batch.pos[place], batch.logits[place] = token, place, True
        batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
    batch.n_tokens = LENGTH
    assert c.llama_decode(context, batch) == 0
    vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
    logits = np.ctypeslib.as_array(c.llama_get_logits(context), (LENGTH, vocab)).copy()
    c.llama_batch_free(batch)
    c.llama_free(context)
    c.llama_model_free(model)
    return logits


if __name__ == "__main__":
    main()
