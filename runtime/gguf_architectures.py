"""What sets the GGUF architectures apart that are served: names of tensors, and what llama.cpp does with them.

Source: ``MODEL_TENSORS`` of gguf-py's constants.py, llama.cpp's convert_hf_to_gguf.py and its graphs (src/models).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_LINEARS = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
_FUSED = _LINEARS | dict.fromkeys("qkv", "attn_qkv") | dict.fromkeys(("gate", "up"), "ffn_up")
_NORMS = {"attention_norm": "attn_norm", "ffn_norm": "ffn_norm"}


@dataclass(frozen=True, slots=True)
class GgufArchitecture:
    """One value of ``general.architecture``.

    ``linears``, ``norms``: our names to the file's. ``interleaved``: rows of q and k lie in pairs that are rotated
    together, where other files have a head's halves. ``biased``: parts that must have a bias. ``scaled_embedding``:
    embeddings are multiplied by the root of the hidden size. ``full_every``: the last of so many layers has full
    attention though others slide.
    """

    linears: Mapping[str, str] = field(default_factory=lambda: _LINEARS)
    norms: Mapping[str, str] = field(default_factory=lambda: _NORMS)
    interleaved: bool = False
    biased: str = ""
    activation: Literal["silu", "gelu_tanh"] = "silu"
    scaled_embedding: bool = False
    full_every: int | None = None

    @property
    def fused(self) -> bool:
        """Whether q, k and v lie in one matrix, gate and up in another."""
        return self.linears is _FUSED


GGUF_ARCHITECTURES = {
    "llama": GgufArchitecture(interleaved=True),
    "qwen2": GgufArchitecture(biased="qkv"),
    "qwen3": GgufArchitecture(norms=_NORMS | {"q_norm": "attn_q_norm", "k_norm": "attn_k_norm"}),
    "gemma": GgufArchitecture(activation="gelu_tanh", scaled_embedding=True),
    "gemma2": GgufArchitecture(
        norms=_NORMS | {"attention_post_norm": "post_attention_norm", "ffn_post_norm": "post_ffw_norm"},
        activation="gelu_tanh",
        scaled_embedding=True,
        full_every=2,
    ),
    "phi3": GgufArchitecture(linears=_FUSED),
}
