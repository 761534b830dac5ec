"""Reads a LoRA adapter in PEFT's form (``adapter_config.json``, ``adapter_model.safetensors``), fits it to weights.

Nothing pickled is read. What isn't served is refused by name, in one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (names bfloat16 to numpy, which safetensors then gives)
import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors import SafetensorError, safe_open

from runtime.adapter import PANEL, SCALE, Adapter
from runtime.config import DecoderShape
from runtime.errors import AdapterError, FinetuneIncomplete
from runtime.peft_config import CONFIG, MAX_RANK, PeftConfig, read_config

WEIGHTS = "adapter_model.safetensors"
FILES = (CONFIG, WEIGHTS)
MAX_BYTES = 300_000_000
"""Of the weights; the platform's limit (developers.cloudflare.com/workers-ai/features/fine-tunes/loras)."""

_PICKLED = "adapter_model.bin"
_NAME = re.compile(r"(?P<module>.*)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_MODULE = re.compile(r"(?:model\.)?layers\.(?P<layer>\d{1,5})\.(?P<part>[\w.]+)")
_PARTS = {
    "self_attn.q_proj": ("qkv", "q"),
    "self_attn.k_proj": ("qkv", "k"),
    "self_attn.v_proj": ("qkv", "v"),
    "self_attn.qkv_proj": ("qkv", "qkv"),
    "self_attn.o_proj": ("o", "o"),
    "mlp.gate_proj": ("gate_up", "gate"),
    "mlp.up_proj": ("gate_up", "up"),
    "mlp.gate_up_proj": ("gate_up", "gate_up"),
    "mlp.down_proj": ("down", "down"),
}
_DTYPES = ("F32", "F16", "BF16")
_Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Factor:
    """The factors of one module: ``a`` [rank, inputs], ``b`` [outputs, rank], and the scale of their product."""

    module: str
    layer: int
    product: str
    part: str
    a: _Floats
    b: _Floats
    scale: float


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """An adapter as its files have it, sound in itself."""

    config: PeftConfig
    factors: tuple[Factor, ...]

    @classmethod
    def read(cls, folder: Path) -> PeftAdapter:
        """The adapter in ``folder``.

        Raises :class:`FinetuneIncomplete` where a file is missing, :class:`AdapterError` for what can't be served.
        """
        config = read_config(folder)
        tensors = _tensors(folder)
        pairs: dict[str, dict[str, _Floats]] = {}
        for name, values in tensors:
            match = _NAME.fullmatch(name)
            if match is None:
                raise AdapterError(f"the adapter has the tensor {name}, which isn't served: LoRA's A and B alone are")
            pairs.setdefault(match["module"].removeprefix("base_model.model."), {})[match["side"]] = values
        if not pairs:
            raise AdapterError(f"{WEIGHTS} has no tensors")
        return cls(config, tuple(_factor(config, module, pair) for module, pair in pairs.items()))

    @property
    def rank(self) -> int:
        """The largest rank of a module."""
        return max(len(factor.a) for factor in self.factors)

    def fit(self, shape: DecoderShape | None, *, key: str, name: str, dtype: DTypeLike = np.float32) -> Adapter:
        """The adapter for a decoder of ``shape``, which roost built and which computes in ``dtype``.

        Raises :class:`AdapterError` where it was made for another, or roost built none (``None``).
        """
        if shape is None:
            raise AdapterError("the weights that answer come in a graph made elsewhere, which takes no adapters")
        products: dict[str, list[Factor]] = {}
        for factor in self.factors:
            _check_fit(factor, shape)
            products.setdefault(f"layer{factor.layer}.{factor.product}", []).append(factor)
        widths = {factor.product: _widths(shape)[factor.product] for factor in self.factors}
        packed = {product: _packed(factors, shape, dtype) for product, factors in products.items()}
        if not all(np.isfinite(values).all() for pair in packed.values() for values in pair):
            raise AdapterError(f"the adapter {name} has values that are too large for {np.dtype(dtype)}")
        return Adapter(key, name, self.rank, widths, packed)


def _tensors(folder: Path) -> Iterator[tuple[str, _Floats]]:
    path = folder / WEIGHTS
    if not path.is_file():
        if (folder / _PICKLED).exists():
            raise AdapterError(f"{_PICKLED} may run any code when it is read: save the adapter as {WEIGHTS}")
        raise FinetuneIncomplete(f"{folder} has no {WEIGHTS}")
    if path.stat().st_size > MAX_BYTES:
        raise AdapterError(f"{WEIGHTS} has more than {MAX_BYTES // 10**6} MB, the platform's limit")
    try:
        with safe_open(path, framework="numpy") as file:
            for name in sorted(file.keys()):
                yield name, _floats(name, file)
    except SafetensorError as error:
        raise AdapterError(f"{WEIGHTS} is not a readable safetensors file: {error}") from error


def _floats(name: str, file: Any) -> _Floats:
    view = file.get_slice(name)
    if view.get_dtype() not in _DTYPES or len(view.get_shape()) != 2:
        raise AdapterError(f"{name} is {view.get_dtype()} {view.get_shape()}: a matrix of floats is served")
    values: _Floats = file.get_tensor(name).astype(np.float32)
    if not np.isfinite(values).all():
        raise AdapterError(f"{name} has values that are no numbers, or infinite")
    return values


def _factor(config: PeftConfig, module: str, pair: dict[str, _Floats]) -> Factor:
    match = _MODULE.fullmatch(module)
    if match is None or match["part"] not in _PARTS:
        raise AdapterError(f"the adapter changes {module}, which isn't served: the layers' projections are")
    if pair.keys() != {"A", "B"}:
        raise AdapterError(f"{module} has one factor, of two")
    a, b, rank = pair["A"], pair["B"], config.rank(module)
    if not len(a) == b.shape[1] == rank <= MAX_RANK:
        raise AdapterError(
            f"{module} has factors {list(a.shape)} and {list(b.shape)}, which are none of the rank {rank} in {CONFIG}"
        )
    return Factor(module, int(match["layer"]), *_PARTS[match["part"]], a, b, config.scale(module))


def _widths(shape: DecoderShape) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each product."""
    attention, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "qkv": (shape.hidden, attention + 2 * kv),
        "o": (attention, shape.hidden),
        "gate_up": (shape.hidden, 2 * shape.ffn),
        "down": (shape.ffn, shape.hidden),
    }


def _columns(shape: DecoderShape, product: str, part: str) -> slice:
    """Where a part's outputs lie among its product's."""
    attention, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    starts = {"q": 0, "k": attention, "v": attention + kv, "gate": 0, "up": shape.ffn}
    sizes = {"q": attention, "k": kv, "v": kv, "gate": shape.ffn, "up": shape.ffn}
    start = starts.get(part, 0)
    return slice(start, start + sizes.get(part, _widths(shape)[product][1]))


def _check_fit(factor: Factor, shape: DecoderShape) -> None:
    if factor.layer >= shape.layers:
        raise AdapterError(f"the adapter changes {factor.module}; the weights that answer have {shape.layers} layers")
    columns = _columns(shape, factor.product, factor.part)
    there = [columns.stop - columns.start, _widths(shape)[factor.product][0]]
    stated = [factor.b.shape[0], factor.a.shape[1]]
    if stated != there:
        raise AdapterError(
            f"the adapter is for {factor.module} of {stated}, the weights that answer have {there}: "
            "it was made for another model"
        )


def _packed(factors: list[Factor], shape: DecoderShape, dtype: DTypeLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """The factors of one product side by side: ``a`` [panels, inputs, 16], ``b`` [panels * 16, outputs]."""
    product = factors[0].product
    inputs, outputs = _widths(shape)[product]
    panels = -(-sum(len(factor.a) for factor in factors) // PANEL)
    a, b = np.zeros((panels * PANEL, inputs), np.float32), np.zeros((panels * PANEL, outputs), np.float32)
    start = 0
    for factor in factors:
        ranks = slice(start, start + len(factor.a))
        a[ranks] = factor.a * np.float32(SCALE)
        b[ranks, _columns(shape, product, factor.part)] = factor.b.T * np.float32(SCALE * factor.scale)
        start = ranks.stop
    with np.errstate(over="ignore"):  # whoever asked looks at what came of it
        return (
            np.ascontiguousarray(a.reshape(panels, PANEL, inputs).transpose(0, 2, 1), dtype),
            np.ascontiguousarray(b, dtype),
        )
