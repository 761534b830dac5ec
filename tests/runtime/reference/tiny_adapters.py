"""Random LoRA adapters in PEFT's form, the same wherever they are made. Knows nothing of Roost, PyTorch or PEFT.

Values come from numpy's frozen generator. make_adapter_logits.py and the tests make the same folders from here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.runtime.reference.tiny_checkpoints import CHECKPOINTS, LAYERS, Tiny, config, linears

Shapes = Mapping[str, tuple[int, int]]
"""Rows and columns of a layer's matrices by name (``self_attn.q_proj``)."""


@dataclass(frozen=True)
class Kind:
    """One way to adapt a model: what ``adapter_config.json`` says, and the type of the weights in the file."""

    targets: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"


_ATTENTION = ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "gate_up_proj", "down_proj")
KINDS = {
    "qv": Kind(("q_proj", "v_proj", "qkv_proj"), {"r": 8, "lora_alpha": 16}),
    "all": Kind(
        (*_ATTENTION, *_MLP),
        {
            "r": 16,
            "lora_alpha": 8,
            "rank_pattern": {"q_proj": 5, "layers.2.mlp.down_proj": 32},
            "alpha_pattern": {"o_proj": 24},
        },
        "bfloat16",
    ),
    "rslora": Kind(
        ("k_proj", "qkv_proj", "o_proj", "up_proj", "gate_up_proj"),
        {"r": 20, "lora_alpha": 6, "use_rslora": True, "layers_to_transform": [1, 3]},
        "float16",
    ),
}
ADAPTED = ("llama", "llama3", "mistral", "qwen2", "qwen3", "gemma2", "phi3")
SEEDS = {("qwen2", "rslora"): 7, ("gemma2", "qv"): 7}
"""Where the kind's place among the others won't do: a greedy token leads the next best by too little."""
_SPREAD = 0.6  # of the low-rank product, before its scale; the weights' is 1.2


def tiny_shapes(tiny: Tiny) -> Shapes:
    """The matrices of a tiny checkpoint's layers."""
    return {name: (rows, columns) for name, rows, columns in linears(tiny, config(tiny)["hidden_size"])}


def write_adapter(folder: Path, shapes: Shapes, layers: int, kind: Kind, seed: int) -> str:
    """Write an adapter for a model of ``layers`` layers into ``folder``; the sha256 of its weights is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    present = sorted({name.split(".")[1] for name in shapes} & set(kind.targets))
    stated = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_dropout": 0.0,
        "target_modules": present,
        **kind.config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(stated, indent=2))
    dtype = np.dtype(getattr(ml_dtypes, kind.dtype, kind.dtype))
    tensors = {name: values.astype(dtype) for name, values in _tensors(shapes, layers, kind, seed)}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return hashlib.sha256(b"".join(name.encode() + tensors[name].tobytes() for name in sorted(tensors))).hexdigest()


def write_tiny_adapter(folder: Path, checkpoint: str, kind: str) -> str:
    """Write the adapter ``kind`` of a tiny checkpoint."""
    seed = SEEDS.get((checkpoint, kind), list(KINDS).index(kind))
    return write_adapter(folder, tiny_shapes(CHECKPOINTS[checkpoint]), LAYERS, KINDS[kind], seed)


def _tensors(shapes: Shapes, layers: int, kind: Kind, seed: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    draw = np.random.RandomState(seed)
    for layer in kind.config.get("layers_to_transform", range(layers)):
        for name, (rows, columns) in shapes.items():
            if name.split(".")[1] not in kind.targets:
                continue
            module = f"layers.{layer}.{name}"
            patterns = kind.config.get("rank_pattern", {})
            rank = next((rank for end, rank in patterns.items() if module.endswith(end)), kind.config["r"])
            path = f"base_model.model.model.{module}"
            yield f"{path}.lora_A.weight", draw.normal(0, 1 / columns**0.5, (rank, columns))
            yield f"{path}.lora_B.weight", draw.normal(0, _SPREAD / rank**0.5, (rows, rank))
