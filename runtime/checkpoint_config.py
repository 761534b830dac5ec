"""Reads a Hugging Face checkpoint's ``config.json``: which architecture it is, and its shape.

What isn't served is refused by name, rather than built into a model that is quietly wrong. Source: transformers'
``configuration_*.py`` and ``modeling_rope_utils.py`` (4.57), whose class defaults stand here where a file may omit
them; version 5 writes ``rope_parameters`` for what was ``rope_theta`` and ``rope_scaling``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from runtime.config import DecoderShape
from runtime.errors import ArtifactError
from runtime.shape import LONGEST_CONTEXT, MOST, MOST_LAYERS, WIDEST_HEAD, checked, misstatements, within

CONFIG = "config.json"
_NORMS = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_GEMMA2_NORMS = {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_post_norm": "post_feedforward_layernorm",
}
_QWEN3_NORMS = {**_NORMS, "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
_ROTARY_MULTIPLE = 16


@dataclass(frozen=True, slots=True)
class Architecture:
    """What sets an architecture's checkpoints apart.

    ``norms``: our names to the checkpoint's. ``unit_gains``: gains are stored less one. ``fused``: q, k and v lie in
    one matrix, gate and up in another. ``tied``: the head is the embedding where the file doesn't say.
    ``scaled_embedding``: embeddings are multiplied by the root of the hidden size. ``biased``: parts that always have
    a bias.
    """

    norms: Mapping[str, str]
    unit_gains: bool = False
    fused: bool = False
    tied: bool = False
    scaled_embedding: bool = False
    biased: str = ""


_ARCHITECTURES = {
    "LlamaForCausalLM": Architecture(_NORMS),
    "MistralForCausalLM": Architecture(_NORMS),
    "Qwen2ForCausalLM": Architecture(_NORMS, biased="qkv"),
    "Qwen3ForCausalLM": Architecture(_QWEN3_NORMS),
    "GemmaForCausalLM": Architecture(_NORMS, unit_gains=True, tied=True, scaled_embedding=True),
    "Gemma2ForCausalLM": Architecture(_GEMMA2_NORMS, unit_gains=True, tied=True, scaled_embedding=True),
    "Phi3ForCausalLM": Architecture(_NORMS, fused=True),
}
_SILU, _GELU = ("silu", "swish"), ("gelu_pytorch_tanh", "gelu_fast", "gelu_new")


class CheckpointConfig:
    """One ``config.json``. Raises :class:`ArtifactError` in one sentence for what can't be served."""

    def __init__(self, stated: Mapping[str, Any]) -> None:
        self._stated = stated
        self.name = str((stated.get("architectures") or [stated.get("model_type", "unnamed")])[0])
        if self.name not in _ARCHITECTURES:
            served = ", ".join(name.removesuffix("ForCausalLM") for name in _ARCHITECTURES)
            raise ArtifactError(f"the architecture {self.name} isn't served; {served} are")
        self.architecture = _ARCHITECTURES[self.name]
        if "quantization_config" in stated:
            raise ArtifactError("the checkpoint is quantised already, which isn't served: take the original one")

    @classmethod
    def read(cls, folder: Path) -> CheckpointConfig:
        """The ``config.json`` of a checkpoint's folder."""
        try:
            stated = json.loads((folder / CONFIG).read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{folder} has no readable {CONFIG}: {error}") from error
        if not isinstance(stated, dict):
            raise ArtifactError(f"{CONFIG} in {folder} is not an object")
        return cls.of(stated)

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> CheckpointConfig:
        """What a ``config.json`` states."""
        with misstatements(CONFIG):
            return cls(stated)

    def get(self, key: str, default: Any = None) -> Any:
        """The value under ``key``, or ``default`` where it is absent or null."""
        value = self._stated.get(key)
        return default if value is None else value

    @property
    def tied(self) -> bool:
        """Whether the embedding is the head, too."""
        return bool(self.get("tie_word_embeddings", self.architecture.tied))

    @property
    def biased(self) -> str:
        """Letters of the attention's parts, and ``m`` for the three of the MLP, that have a bias."""
        attention = "qkvo" if self.get("attention_bias", False) else self.architecture.biased
        return attention + ("m" if self.get("mlp_bias", False) else "")

    def shape(self) -> DecoderShape:
        """The decoder's dimensions and constants."""
        with misstatements(CONFIG), np.errstate(all="ignore"):  # what isn't a number is refused by its name
            return checked(self._shape(), CONFIG)

    def _shape(self) -> DecoderShape:
        heads, hidden = self._int("num_attention_heads"), self._int("hidden_size")
        head_dim = int(self.get("head_dim", 128 if self.name == "Qwen3ForCausalLM" else hidden // heads))
        rope = _Rope.of(self, within(head_dim, "head_dim", CONFIG, WIDEST_HEAD))
        scalar = self.get("query_pre_attn_scalar")
        return DecoderShape(
            layers=self._layers,
            hidden=hidden,
            heads=heads,
            kv_heads=int(self.get("num_key_value_heads", heads)),
            head_dim=head_dim,
            ffn=self._int("intermediate_size"),
            vocab=self._int("vocab_size"),
            context=min(rope.context, LONGEST_CONTEXT),
            rope_theta=rope.theta,
            norm_epsilon=float(self.get("rms_norm_eps", 1e-6)),
            window=self._window(),
            full_layers=self._full_layers(),
            rotary_dim=None if rope.dim == head_dim else rope.dim,
            rope_factors=rope.factors,
            rope_scale=rope.scale,
            activation=self._activation(),
            embedding_scale=math.sqrt(hidden) if self.architecture.scaled_embedding else 1.0,
            attention_scale=None if scalar is None else float(scalar) ** -0.5,
            attention_softcap=float(self.get("attn_logit_softcapping", 0.0)),
            logit_softcap=float(self.get("final_logit_softcapping", 0.0)),
        )

    def _int(self, key: str, most: int = MOST) -> int:
        try:
            number = int(self._stated[key])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ArtifactError(f"{CONFIG} lacks {key}, or it is not a number") from None
        return within(number, key, CONFIG, most)

    @property
    def _layers(self) -> int:
        return self._int("num_hidden_layers", MOST_LAYERS)

    def _window(self) -> int | None:
        """The sliding window of the layers that have one, in tokens; ``None`` where none has."""
        if self.name.startswith("Qwen") and not self.get("use_sliding_window", False):
            return None
        if self.name in ("LlamaForCausalLM", "GemmaForCausalLM"):
            return None
        window = self.get("sliding_window")
        if window is None or len(self._full_layers()) == self._layers:
            return None
        return int(window)

    def _full_layers(self) -> tuple[int, ...]:
        """Layers with full attention in a model whose other layers slide."""
        layers = range(self._layers)
        if types := self.get("layer_types"):
            return tuple(layer for layer in layers if types[layer] == "full_attention")
        if self.name == "Gemma2ForCausalLM":
            return tuple(layers[1::2])
        if self.name.startswith("Qwen"):
            return tuple(layers[: int(self.get("max_window_layers", 28))])
        return ()

    def _activation(self) -> Literal["silu", "gelu_tanh"]:
        stated = self.get("hidden_activation", self.get("hidden_act", "silu"))
        if stated == "gelu" and self.name == "GemmaForCausalLM":
            return "gelu_tanh"  # Gemma's first files say gelu where Google's own code takes tanh's approximation
        if stated in _GELU:
            return "gelu_tanh"
        if stated in _SILU:
            return "silu"
        raise ArtifactError(f"the activation {stated} isn't served; {_SILU[0]} and {_GELU[0]} are")


@dataclass(frozen=True, slots=True)
class _Rope:
    """Rotary positions; see :class:`DecoderShape` for what its numbers do."""

    theta: float
    dim: int
    context: int
    factors: tuple[float, ...] = ()
    scale: float = 1.0

    @classmethod
    def of(cls, config: CheckpointConfig, head_dim: int) -> _Rope:
        scaling: dict[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
        theta = float(scaling.get("rope_theta", config.get("rope_theta", 10_000.0)))
        share = float(scaling.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)))
        dim = within(int(head_dim * share), "the rotated values of a head", CONFIG, head_dim)
        if dim % _ROTARY_MULTIPLE and dim != head_dim:
            raise ArtifactError(f"heads of which {dim} values are rotated aren't served: a multiple of 16 is needed")
        plain = cls(theta, dim, int(config.get("max_position_embeddings", 2048)))
        kind = str(scaling.get("rope_type", scaling.get("type", "default")))
        if config.name == "Phi3ForCausalLM" and kind in ("su", "yarn"):
            kind = "longrope"  # what Phi-3's first files call it
        if kind == "default":
            return plain
        if kind not in _SCALINGS:
            raise ArtifactError(f"the rope scaling {kind} isn't served; {', '.join(_SCALINGS)} are")
        try:
            return _SCALINGS[kind](plain, config, scaling)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{CONFIG}'s rope scaling {kind} lacks or misstates {error}") from error

    def frequencies(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Radians per position of every pair, before scaling."""
        return self.theta ** -(np.arange(0, self.dim, 2) / self.dim)


def _linear(plain: _Rope, _config: CheckpointConfig, scaling: Mapping[str, Any]) -> _Rope:
    factors = (float(scaling["factor"]),) * (plain.dim // 2)
    return _Rope(plain.theta, plain.dim, plain.context, factors)


def _llama3(plain: _Rope, _config: CheckpointConfig, scaling: Mapping[str, Any]) -> _Rope:
    """Slow pairs are slowed by the factor, quick ones left, those between interpolated."""
    factor, low, high = (float(scaling[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = float(scaling["original_max_position_embeddings"]) * plain.frequencies() / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    factors = 1 / ((1 - kept) / factor + kept)
    return _Rope(plain.theta, plain.dim, plain.context, tuple(factors.tolist()))


def _longrope(plain: _Rope, config: CheckpointConfig, scaling: Mapping[str, Any]) -> _Rope:
    """The short factors, and so the original context: past it other factors turn every key anew."""
    original = config.get("original_max_position_embeddings", scaling.get("original_max_position_embeddings"))
    original = int(plain.context if original is None else original)
    stretch = plain.context / original
    scale = scaling.get("attention_factor")
    if scale is None:
        scale = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
    short = tuple(float(factor) for factor in scaling["short_factor"])
    if len(short) != plain.dim // 2:
        raise ArtifactError(f"{CONFIG}'s rope scaling has {len(short)} short factors for {plain.dim // 2} pairs")
    return _Rope(plain.theta, plain.dim, min(original, plain.context), short, float(scale))


def _yarn(plain: _Rope, _config: CheckpointConfig, scaling: Mapping[str, Any]) -> _Rope:
    """Slow pairs are slowed by the factor, quick ones left, those between blended (arXiv:2309.00071)."""
    factor = float(scaling["factor"])
    original = int(scaling.get("original_max_position_embeddings") or plain.context)
    slowest = original / (2 * math.pi)  # turns of a pair of frequency 1 over the original context
    bounds = []
    for name, otherwise in (("beta_fast", 32), ("beta_slow", 1)):  # turns from which, to which pairs are blended
        turns = float(scaling.get(name) or otherwise)
        bounds.append(plain.dim * math.log(slowest / turns) / (2 * math.log(plain.theta)))
    low, high = (math.floor(bounds[0]), math.ceil(bounds[1])) if scaling.get("truncate", True) else bounds
    low, high = max(low, 0), min(high, plain.dim - 1)
    slowed = np.clip((np.arange(plain.dim // 2) - low) / (high - low or 0.001), 0, 1)
    factors = 1 / (slowed / factor + 1 - slowed)
    context = max(plain.context, int(original * factor))
    return _Rope(plain.theta, plain.dim, context, tuple(factors.tolist()), _yarn_scale(factor, scaling))


def _yarn_scale(factor: float, scaling: Mapping[str, Any]) -> float:
    def grown(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    if (stated := scaling.get("attention_factor")) is not None:
        return float(stated)
    mscale, of_all = scaling.get("mscale"), scaling.get("mscale_all_dim")
    return grown(float(mscale)) / grown(float(of_all)) if mscale and of_all else grown(1.0)


_SCALINGS = {"linear": _linear, "llama3": _llama3, "longrope": _longrope, "yarn": _yarn}
