"""Makes the tiny checkpoints beside it and their logits according to PyTorch, all committed. Knows nothing of Roost.

Run by hand in an environment with torch==2.13.0, transformers==4.57.6, gguf and numpy, and only to change the models.
A checkpoint is random; transformers computes in float32 with the weights that GGUF's blocks decode to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

Floats = NDArray[np.float32]
FOLDER = Path(__file__).parent
LENGTH, LAYERS, HIDDEN, HEADS, EPSILON = 48, 2, 64, 4, 1e-5
# Part of a layer: its name in GGUF, its name in transformers.
LINEARS = {
    "q": ("attn_q", "self_attn.q_proj"),
    "k": ("attn_k", "self_attn.k_proj"),
    "v": ("attn_v", "self_attn.v_proj"),
    "o": ("attn_output", "self_attn.o_proj"),
    "gate": ("ffn_gate", "mlp.gate_proj"),
    "up": ("ffn_up", "mlp.up_proj"),
    "down": ("ffn_down", "mlp.down_proj"),
}
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


@dataclass(frozen=True)
class Tiny:
    """A tiny model: what it doesn't share with the other, and each matrix's format. No ``head``: tied embeddings."""

    seed: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    rope_theta: float
    formats: dict[str, Type]
    window: int | None = None


@dataclass(frozen=True)
class Tensor:
    """One tensor under both names, in transformers' row order; ``heads``: of a matrix whose rows are rotated."""

    gguf_name: str
    torch_name: str
    values: Floats
    format: Type = Type.F32
    heads: int = 0


Q4_1_FORMATS = {**dict.fromkeys(LINEARS, Type.Q4_1), "embedding": Type.Q8_0}
MIXED_FORMATS = {  # neighbours that don't stack: q and k with v, gate with up
    **dict.fromkeys(("q", "k", "gate"), Type.Q4_0),
    **dict.fromkeys(("v", "down"), Type.Q8_0),
    **dict.fromkeys(("o", "embedding"), Type.F16),
    "up": Type.Q4_1,
    "head": Type.F32,
}
MODELS = {
    "tiny_llama": Tiny(seed=1, kv_heads=2, head_dim=16, ffn=96, vocab=128, rope_theta=1e4, formats=Q4_1_FORMATS),
    # Its heads are wider than hidden / heads.
    "tiny_mistral": Tiny(
        seed=2, kv_heads=1, head_dim=32, ffn=128, vocab=96, rope_theta=1e5, formats=MIXED_FORMATS, window=16
    ),
}


def main() -> None:
    """Write both checkpoints and ``logits.npz``: the tokens, and each model's logits at every position."""
    tokens = np.random.default_rng(0).integers(0, min(tiny.vocab for tiny in MODELS.values()), LENGTH)
    logits: dict[str, Any] = {name: _make(name, tiny, tokens) for name, tiny in MODELS.items()}
    np.savez_compressed(FOLDER / "logits.npz", tokens=tokens, **logits)


def _make(name: str, tiny: Tiny, tokens: NDArray[np.int64]) -> Floats:
    tensors = list(_tensors(tiny))
    _write_gguf(FOLDER / f"{name}.gguf", tiny, tensors)
    logits = _logits(tiny, tensors, tokens)
    print(f"{name}: the logits' standard deviation is {logits.std():.2f}")
    if tiny.window is not None:  # one that is a token off must be far outside the test's tolerance
        wider = _logits(replace(tiny, window=tiny.window + 1), tensors, tokens)
        print(f"a window wider by one token changes them by up to {np.abs(wider - logits).max():.2f}")
    return logits


def _tensors(tiny: Tiny) -> Iterator[Tensor]:
    rng = np.random.default_rng(tiny.seed)
    # These spreads give attention some contrast and logits of a few units.
    embedding = _normal(rng, tiny.vocab, HIDDEN, spread=0.4)
    yield Tensor("token_embd.weight", "model.embed_tokens.weight", embedding, tiny.formats["embedding"])
    for layer in range(LAYERS):
        for part in LINEARS:
            yield _linear(tiny, rng, layer, part)
        for name, torch_name in NORMS.items():
            yield Tensor(f"blk.{layer}.{name}.weight", f"model.layers.{layer}.{torch_name}.weight", _gain(rng))
    yield Tensor("output_norm.weight", "model.norm.weight", _gain(rng))
    if "head" in tiny.formats:
        head = _normal(rng, tiny.vocab, HIDDEN, spread=0.4)
        yield Tensor("output.weight", "lm_head.weight", head, tiny.formats["head"])


def _linear(tiny: Tiny, rng: np.random.Generator, layer: int, part: str) -> Tensor:
    attended, kv = HEADS * tiny.head_dim, tiny.kv_heads * tiny.head_dim
    rows = {"q": attended, "k": kv, "v": kv, "gate": tiny.ffn, "up": tiny.ffn}.get(part, HIDDEN)
    columns = {"o": attended, "down": tiny.ffn}.get(part, HIDDEN)
    name, torch_name = LINEARS[part]
    return Tensor(
        f"blk.{layer}.{name}.weight",
        f"model.layers.{layer}.{torch_name}.weight",
        _normal(rng, rows, columns, spread=0.15),
        tiny.formats[part],
        heads={"q": HEADS, "k": tiny.kv_heads}.get(part, 0),
    )


def _normal(rng: np.random.Generator, rows: int, columns: int, spread: float) -> Floats:
    return rng.normal(0, spread, (rows, columns)).astype(np.float32)


def _gain(rng: np.random.Generator) -> Floats:
    return rng.normal(1, 0.1, HIDDEN).astype(np.float32)


def _write_gguf(path: Path, tiny: Tiny, tensors: list[Tensor]) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(2 * LENGTH)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(tiny.ffn)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(tiny.kv_heads)
    writer.add_key_length(tiny.head_dim)
    writer.add_value_length(tiny.head_dim)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(tiny.rope_theta)
    if tiny.window is not None:
        writer.add_sliding_window(tiny.window)
    for tensor in tensors:
        values = _interleave(tensor.values, tensor.heads) if tensor.heads else tensor.values
        writer.add_tensor(tensor.gguf_name, gguf.quantize(values, tensor.format), raw_dtype=tensor.format)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleave(values: Floats, heads: int) -> Floats:
    """``permute`` of llama.cpp's convert_hf_to_gguf.py: the two halves of each head become neighbouring rows."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _logits(tiny: Tiny, tensors: list[Tensor], tokens: NDArray[np.int64]) -> Floats:
    model = _model(tiny)
    # Blocks lie within a row, so decoding them commutes with GGUF's order of the rows.
    decoded = {t.torch_name: gguf.dequantize(gguf.quantize(t.values, t.format), t.format) for t in tensors}
    state = {name: torch.from_numpy(values.copy()) for name, values in decoded.items()}
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
    model.load_state_dict(state)
    ids = torch.from_numpy(tokens)[None]
    with torch.no_grad():
        # Without a mask transformers infers one from the padding token.
        logits: Floats = model(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].numpy()
    return logits


def _model(tiny: Tiny) -> Any:
    common = {
        "vocab_size": tiny.vocab,
        "hidden_size": HIDDEN,
        "intermediate_size": tiny.ffn,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": tiny.kv_heads,
        "head_dim": tiny.head_dim,
        "rms_norm_eps": EPSILON,
        "rope_theta": tiny.rope_theta,
        "tie_word_embeddings": "head" not in tiny.formats,
        "attn_implementation": "eager",
    }
    if tiny.window is None:
        return LlamaForCausalLM(LlamaConfig(**common)).float().eval()
    return MistralForCausalLM(MistralConfig(**common, sliding_window=tiny.window)).float().eval()


if __name__ == "__main__":
    main()
