"""Tiny random checkpoints of every architecture served, the same wherever they are made. Knows nothing of Roost.

Weights come from numpy's frozen generator (RandomState) and are bfloat16, as on the hub; half of them lie in each of
two shards. make_checkpoint_logits.py and the tests make the same folders from here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Tensors = dict[str, NDArray[Any]]
LAYERS, FFN, VOCAB, WINDOW = 4, 80, 64, 16
WIDE = 96  # the hidden size of models whose heads are wider than hidden / heads
PROMPTS = (5, 13, 24)  # tokens; the last is past the window
GREEDY = 64


@dataclass(frozen=True)
class Tiny:
    """One checkpoint: its architecture, what its ``config.json`` says beside the common part, what tensors it has."""

    architecture: str
    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    tied: bool = False
    biased: str = ""
    fused: bool = False
    unit_gains: bool = False
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")


_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.05, 1.1, 1.25, 1.5, 1.75, 2.0, 2.25],
    "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0, 32.0],
}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 4.0}
_GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh", "head_dim": 32}
_GEMMA2_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_QWEN3_NORMS = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
_SLIDING = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}

CHECKPOINTS = {
    "llama": Tiny("LlamaForCausalLM", "llama"),
    "llama3": Tiny("LlamaForCausalLM", "llama", {"rope_scaling": _LLAMA3, "attention_bias": True}, biased="qkvo"),
    "smollm": Tiny("LlamaForCausalLM", "llama", {"rope_theta": 1e5, "head_dim": 16}, heads=3, kv_heads=1, tied=True),
    "mistral": Tiny(
        "MistralForCausalLM", "mistral", {"sliding_window": WINDOW, "head_dim": 32}, head_dim=32, kv_heads=1
    ),
    "qwen2": Tiny("Qwen2ForCausalLM", "qwen2", {"rope_theta": 1e6}, tied=True, biased="qkv"),
    "qwen2_yarn": Tiny("Qwen2ForCausalLM", "qwen2", {"rope_theta": 1e4, "rope_scaling": _YARN}, biased="qkv"),
    "qwen2_window": Tiny("Qwen2ForCausalLM", "qwen2", _SLIDING, biased="qkv"),
    "qwen3": Tiny("Qwen3ForCausalLM", "qwen3", {"head_dim": 32}, head_dim=32, norms=_QWEN3_NORMS),
    "gemma": Tiny("GemmaForCausalLM", "gemma", _GEMMA, head_dim=32, kv_heads=1, tied=True, unit_gains=True),
    "gemma2": Tiny(
        "Gemma2ForCausalLM",
        "gemma2",
        {
            **_GEMMA,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
        },
        head_dim=32,
        tied=True,
        unit_gains=True,
        norms=_GEMMA2_NORMS,
    ),
    "phi3": Tiny("Phi3ForCausalLM", "phi3", {"sliding_window": WINDOW}, heads=3, kv_heads=3, fused=True),
    "phi3_longrope": Tiny(
        "Phi3ForCausalLM",
        "phi3",
        {
            "rope_scaling": _LONGROPE,
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": 128,
            "max_position_embeddings": 1024,
        },
        heads=3,
        kv_heads=1,
        head_dim=32,
        tied=True,
        fused=True,
    ),
}

SEEDS: dict[str, int] = {"qwen2_window": 2, "gemma2": 2}
"""Where 1 won't do: a greedy token leads the next best by less than the tests can tell apart."""


def write_checkpoint(folder: Path, name: str) -> str:
    """Write the checkpoint ``name`` into ``folder``; the sha256 of its tensors is returned."""
    tiny, digest = CHECKPOINTS[name], hashlib.sha256()
    tensors = {key: value.astype(ml_dtypes.bfloat16) for key, value in _tensors(tiny, SEEDS.get(name, 1))}
    for key, value in tensors.items():
        digest.update(key.encode() + value.tobytes())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(tiny), indent=2))
    names, places = list(tensors), dict[str, str]()
    for index in (0, 1):
        shard = f"model-0000{index + 1}-of-00002.safetensors"
        mine = names[index * len(names) // 2 : (index + 1) * len(names) // 2]
        save_file({key: tensors[key] for key in mine}, folder / shard, metadata={"format": "pt"})
        places |= dict.fromkeys(mine, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return digest.hexdigest()


def config(tiny: Tiny) -> dict[str, Any]:
    """The checkpoint's ``config.json``."""
    return {
        "architectures": [tiny.architecture],
        "model_type": tiny.model_type,
        "hidden_size": tiny.heads * tiny.head_dim if tiny.head_dim == 16 else WIDE,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": tiny.heads,
        "num_key_value_heads": tiny.kv_heads,
        "hidden_act": "silu",
        "vocab_size": VOCAB,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tiny.tied,
        "torch_dtype": "bfloat16",
        "bos_token_id": 0,
        "eos_token_id": None,
        "pad_token_id": None,
        **({"rope_scaling": None} if "rope_scaling" not in tiny.config else {}),
        **tiny.config,
    }


def prompts() -> list[list[int]]:
    """The rows of the ragged batch."""
    draw = np.random.RandomState(0)
    return [draw.randint(0, VOCAB, length).tolist() for length in PROMPTS]


def _tensors(tiny: Tiny, seed: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    draw, stated = np.random.RandomState(seed), config(tiny)
    hidden = stated["hidden_size"]
    # These spreads give attention some contrast and logits of a few units. Gemma multiplies its embeddings, and at
    # the larger spread would say the last token again for ever.
    yield "model.embed_tokens.weight", draw.normal(0, 0.05 if tiny.unit_gains else 0.4, (VOCAB, hidden))
    for layer in range(LAYERS):
        for name, rows, columns in _linears(tiny, hidden):
            yield f"model.layers.{layer}.{name}.weight", draw.normal(0, 1.2 / columns**0.5, (rows, columns))
            if name[-6] in tiny.biased and name.startswith("self_attn"):
                yield f"model.layers.{layer}.{name}.bias", draw.normal(0, 0.3, rows)
        for name in tiny.norms:
            width = tiny.head_dim if name.startswith("self_attn") else hidden
            yield f"model.layers.{layer}.{name}.weight", draw.normal(0 if tiny.unit_gains else 1, 0.2, width)
    yield "model.norm.weight", draw.normal(0 if tiny.unit_gains else 1, 0.2, hidden)
    if not tiny.tied:
        yield "lm_head.weight", draw.normal(0, 0.4, (VOCAB, hidden))


def _linears(tiny: Tiny, hidden: int) -> list[tuple[str, int, int]]:
    """Name, rows and columns of a layer's matrices."""
    q, kv = tiny.heads * tiny.head_dim, tiny.kv_heads * tiny.head_dim
    after = [("self_attn.o_proj", hidden, q), ("mlp.down_proj", hidden, FFN)]
    if tiny.fused:
        return [("self_attn.qkv_proj", q + 2 * kv, hidden), ("mlp.gate_up_proj", 2 * FFN, hidden), *after]
    parts = (("q", q), ("k", kv), ("v", kv))
    before = [(f"self_attn.{part}_proj", rows, hidden) for part, rows in parts]
    return [*before, ("mlp.gate_proj", FFN, hidden), ("mlp.up_proj", FFN, hidden), *after]
