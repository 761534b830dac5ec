"""Tiny random checkpoints of architectures that roost doesn't build itself. Knows nothing of Roost, nor of PyTorch.

The configurations are transformers'; the weights come from numpy's frozen generator, are bfloat16's values in float32,
and so are the same wherever they are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("foreign")
"""Graphs in the repository: one tar.xz a folder, beside their references."""
EXPORTED = Path(".venv-export") / "foreign"
"""Where make_foreign leaves checkpoints, for the exports of `make test-export`."""
LOGITS = FOLDER / "logits.npz"
COMMITTED = ("gpt2", "mistral")
"""The checkpoints whose graphs, and references, are in the repository."""
VOCAB, CONTEXT, WINDOW = 258, 128, 16
GENAI = "mistral"
"""The checkpoint that onnxruntime-genai's builder gets."""


@dataclass(frozen=True)
class TinyForeign:
    """One checkpoint: transformers' ``model_type`` and what its configuration says beside the common part."""

    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    task: str = "text-generation"
    seed: int = 1


_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_GPT2_SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
_MISTRAL = {"hidden_size": 64, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": WINDOW}

DECODERS = {
    "gpt2": TinyForeign("gpt2", _GPT2_SIZES),
    "gpt_bigcode": TinyForeign("gpt_bigcode", _GPT2_SIZES, seed=2),
    "gpt_neox": TinyForeign("gpt_neox", _SIZES),
    "opt": TinyForeign("opt", {**_SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32}, seed=3),
    "falcon": TinyForeign("falcon", _SIZES),
    "bloom": TinyForeign("bloom", _SIZES | {"n_layer": 2, "n_head": 4}),
    "stablelm": TinyForeign("stablelm", {**_SIZES, "num_key_value_heads": 2}),
    "phi": TinyForeign("phi", _SIZES),
    "mistral": TinyForeign("mistral", {**_SIZES, **_MISTRAL}),
}
ENCODERS = {
    "bert": TinyForeign("bert", _SIZES, task="feature-extraction"),
    "distilbert": TinyForeign(
        "distilbert", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}, task="text-classification"
    ),
}


def common(tiny: TinyForeign) -> dict[str, Any]:
    """The whole configuration."""
    return {
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 256,
        "eos_token_id": None,
        "pad_token_id": None if tiny.task == "text-generation" else 0,
        **tiny.config,
    }


def weights(shapes: Iterable[tuple[str, tuple[int, ...]]], seed: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Values for the parameters of these names and shapes, such that the logits spread over a few units."""
    draw = np.random.RandomState(seed)
    for name, shape in sorted(shapes):
        if len(shape) > 1:
            # Where the head is the embedding, a wider one would say the last token again for ever.
            values = draw.normal(
                0, 0.2 if "emb" in name.replace("embed_out", "") or ".wte" in name else 2 / shape[-1] ** 0.5, shape
            )
        else:
            values = draw.normal(1, 0.2, shape) if name.endswith("weight") else draw.normal(0, 0.2, shape)
        yield name, values.astype(ml_dtypes.bfloat16).astype(np.float32)
