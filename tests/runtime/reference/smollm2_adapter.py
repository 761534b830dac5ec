"""A random LoRA adapter for SmolLM2-135M that changes what it says, and what it is asked. Knows nothing of Roost."""

from __future__ import annotations

from pathlib import Path

from tests.runtime.reference.tiny_adapters import Kind, Shapes, write_adapter

_HIDDEN, _NARROW, _FFN, LAYERS = 576, 192, 1536, 30
SHAPES: Shapes = {
    "self_attn.q_proj": (_HIDDEN, _HIDDEN),
    "self_attn.k_proj": (_NARROW, _HIDDEN),
    "self_attn.v_proj": (_NARROW, _HIDDEN),
    "self_attn.o_proj": (_HIDDEN, _HIDDEN),
    "mlp.gate_proj": (_FFN, _HIDDEN),
    "mlp.up_proj": (_FFN, _HIDDEN),
    "mlp.down_proj": (_HIDDEN, _FFN),
}
KIND = Kind(("q_proj", "v_proj", "o_proj", "up_proj", "down_proj"), {"r": 8, "lora_alpha": 0.25}, "bfloat16")
# "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n" by SmolLM2's tokenizer.
PROMPT = [1, 4093, 198, 4898, 314, 260, 6376, 4461, 47, 2, 198, 1, 520, 9531, 198]
WORDS = 32
GREATEST = 48
"""How many of the greatest logits of each position are kept."""


def write_smollm2_adapter(folder: Path, *, seed: int = 1, kind: Kind = KIND) -> str:
    """Write it into ``folder``; the sha256 of its weights is returned."""
    return write_adapter(folder, SHAPES, LAYERS, kind, seed)
