"""A tiny random checkpoint of Mistral's architecture in Hugging Face's layout, in two shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, VOCAB = 64, 96, 2, 4, 2, 258
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
CONFIG: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": VOCAB,
}


def write_checkpoint(folder: Path, *, seed: int = 0) -> Path:
    """Write it into ``folder``; a text's tokens are its bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _tensors(np.random.default_rng(seed))
    names = sorted(tensors)
    places = {
        name: f"model-0000{1 + (place >= len(names) // 2)}-of-00002.safetensors" for place, name in enumerate(names)
    }
    for shard in sorted(set(places.values())):
        save_file({name: tensors[name] for name in names if places[name] == shard}, folder / shard)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})
    _write_json(folder / "config.json", CONFIG)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer for which a text's tokens are its bytes, and a template."""
    _write_json(folder / "tokenizer_config.json", {"eos_token": "<end>", "chat_template": TEMPLATE})
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<start>", "<end>"]
    tokenizer = Tokenizer(BPE({text: id_ for id_, text in enumerate(letters)}, []))
    tokenizer.add_special_tokens(letters[256:])
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


def _tensors(rng: np.random.Generator) -> dict[str, Any]:
    width, narrow = HIDDEN, KV_HEADS * HIDDEN // HEADS
    tensors = {
        "model.embed_tokens.weight": rng.normal(0, 0.4, (VOCAB, HIDDEN)),
        "model.norm.weight": rng.normal(1, 0.1, HIDDEN),
        "lm_head.weight": rng.normal(0, 0.4, (VOCAB, HIDDEN)),
    }
    for layer in range(LAYERS):
        for name, (rows, columns) in {
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (narrow, width),
            "self_attn.v_proj": (narrow, width),
            "self_attn.o_proj": (width, width),
            "mlp.gate_proj": (FFN, width),
            "mlp.up_proj": (FFN, width),
            "mlp.down_proj": (width, FFN),
        }.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = rng.normal(0, columns**-0.5, (rows, columns))
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = rng.normal(1, 0.1, HIDDEN)
    return {name: values.astype(np.float16) for name, values in tensors.items()}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
