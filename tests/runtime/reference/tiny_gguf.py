"""The tiny checkpoints as GGUF files, as llama.cpp's convert_hf_to_gguf.py would write them. Knows nothing of Roost.

What is converted: names, rows of q and k of the ``llama`` architecture, gains that are stored less one, Llama 3's
rotary factors as a tensor.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tests.runtime.reference.tiny_checkpoints import VOCAB, write_checkpoint

Floats = NDArray[np.float32]
ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2",
    "Phi3ForCausalLM": "phi3",
}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
GEMMA2_NAMES = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}

GGUF_NAMES = ("llama3", "smollm", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "phi3_longrope")
CHANGES: dict[str, dict[str, Any]] = {  # to config.json
    "gemma2": {"query_pre_attn_scalar": 32},  # a GGUF file can't say it: llama.cpp takes the size of a head
    # llama.cpp honours no window of theirs.
    "mistral": {"sliding_window": None},
    "phi3": {"sliding_window": None},
    # It reads no fewer than 256 tokens at once, and past the original context it takes the long factors.
    "phi3_longrope": {"original_max_position_embeddings": 512},
}
LENGTH = 40  # tokens, past the windows


def tokens() -> list[int]:
    """The text that is read."""
    drawn: list[int] = np.random.RandomState(3).randint(0, VOCAB, LENGTH).tolist()
    return drawn


def write_gguf(path: Path, name: str, kind: GGMLQuantizationType = GGMLQuantizationType.F32) -> Path:
    """Write the checkpoint ``name``, with its change, to ``path``, and into the folder that is returned.

    Matrices are of type ``kind`` where its blocks fit their rows.
    """
    checkpoint = path.with_name(name)
    write_checkpoint(checkpoint, name)
    config = json.loads((checkpoint / "config.json").read_text()) | CHANGES.get(name, {})
    (checkpoint / "config.json").write_text(json.dumps(config))
    _write(path, checkpoint, config, kind)
    return checkpoint


def _write(path: Path, checkpoint: Path, config: dict[str, Any], kind: GGMLQuantizationType) -> None:
    architecture = ARCHITECTURES[config["architectures"][0]]
    writer = gguf.GGUFWriter(path, architecture)
    _write_metadata(writer, config)
    shards = sorted(checkpoint.glob("*.safetensors"))
    for name, values in sorted(
        (item for shard in shards for item in load_file(shard).items()), key=lambda item: item[0]
    ):
        converted = _converted(name, values.astype(np.float32), architecture, config)
        of_kind = kind if converted.ndim == 2 and converted.shape[1] % 32 == 0 else GGMLQuantizationType.F32
        writer.add_tensor(_name(name, architecture), gguf.quantize(converted, of_kind), raw_dtype=of_kind)
    for name, factors in _rope_factors(config).items():
        writer.add_tensor(name, factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_metadata(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    head_dim = config.get("head_dim", hidden // heads)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * config.get("partial_rotary_factor", 1)))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if "attn_logit_softcapping" in config:
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if "original_max_position_embeddings" in config:
        original = config["original_max_position_embeddings"]
        stretch = config["max_position_embeddings"] / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(stretch) / math.log(original)))


def _name(name: str, architecture: str) -> str:
    module, kind = name.rsplit(".", 1)
    names = NAMES | (GEMMA2_NAMES if architecture == "gemma2" else {})
    if not module.startswith("model.layers."):
        return f"{names[module]}.{kind}"
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{names[part]}.{kind}"


def _converted(name: str, values: Floats, architecture: str, config: dict[str, Any]) -> Floats:
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return values + np.float32(1)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    part = name.split(".")[-2]
    if architecture != "llama" or part not in heads:
        return values
    halves = values.reshape(heads[part], 2, -1, *values.shape[1:])  # become neighbouring rows
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def _rope_factors(config: dict[str, Any]) -> dict[str, Floats]:
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "longrope":
        return {
            f"rope_factors_{length}.weight": np.array(scaling[f"{length}_factor"], np.float32)
            for length in ("long", "short")
        }
    return {"rope_freqs.weight": _llama3_factors(config, scaling)} if kind == "llama3" else {}


def _llama3_factors(config: dict[str, Any], scaling: dict[str, Any]) -> Floats:
    """One for quick pairs, the factor for slow ones, between them what interpolates the frequencies."""
    dim = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    factors = []
    for frequency in config["rope_theta"] ** -(np.arange(0, dim, 2) / dim):
        turns = scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        smooth = min(max((turns - low) / (high - low), 0), 1)
        factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors, np.float32)
