"""Which of several ONNX files is the decoder, and in which precision, by the names that the hub has for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from runtime.errors import ArtifactError

_NAME = re.compile(r"(?:decoder_model_merged|model|decoder)(?:_(\w+))?\.onnx")
_VARIANTS = {
    None: "fp32",
    "fp16": "fp16",
    "int8": "int8",
    "quantized": "int8",
    "uint8": "int8",
    "q4": "int4",
    "int4": "int4",
    "bnb4": "int4",
    "q4f16": "int4",
}
"""What the hub's names say, the better of two variants first."""
_NO_DECODERS = ("encoder_model", "decoder_with_past_model", "decoder_model", "embed_tokens", "vision_encoder")
_KIND = re.compile(r"int4|int8|fp16|fp32")
_NOT_FOR_CPUS = re.compile(r"cuda|gpu|directml|dml|npu|qnn|openvino")
"""Words of folders in which onnxruntime-genai's repositories keep one variant each."""
_SMALL = 1 << 30  # bytes of float32 up to which rounding isn't worth its loss
_BY_SIZE = ("int4", "int8", "fp16", "fp32")


def choose_graph(sizes: Mapping[str, int], precision: str | None, *, stated: str | None = None) -> str:
    """The decoder among files given with their sizes in bytes, by the hub's names; ``stated``: what a file calls it.

    Without a ``precision``: float32 where it is small, else what takes the least. Raises :class:`ArtifactError` with
    what there is.
    """
    graphs = [name for name in sizes if name.endswith(".onnx")]
    if stated is not None and stated in graphs:
        return stated
    if len(graphs) == 1:
        return graphs[0]
    named = _by_precision(graphs)
    if not named:
        raise ArtifactError(
            f"which of these is the decoder can't be told: {', '.join(sorted(graphs)) or 'no ONNX file'}"
        )
    if precision is not None:
        if precision not in named:
            there = ", ".join(f"{kind} ({PurePosixPath(name).name})" for kind, name in sorted(named.items()))
            raise ArtifactError(f"there is no graph in {precision}, but in {there}")
        return named[precision]
    if "fp32" in named and _with_data(sizes, named["fp32"]) <= _SMALL:
        return named["fp32"]
    return next(named[kind] for kind in _BY_SIZE if kind in named)


def _by_precision(graphs: list[str]) -> dict[str, str]:
    """The best variant of each precision."""
    variants = list(_VARIANTS)
    found: dict[str, tuple[bool, int, int, str]] = {}
    for name in graphs:
        path = PurePosixPath(name)
        match = _NAME.fullmatch(path.name)
        if match is None or match[1] not in _VARIANTS or path.stem in _NO_DECODERS:
            continue
        entry = (bool(_NOT_FOR_CPUS.search(str(path.parent))), variants.index(match[1]), len(name), name)
        in_folder = _KIND.search(str(path.parent)) if match[1] is None else None
        kind = in_folder[0] if in_folder else _VARIANTS[match[1]]
        found[kind] = min(found.get(kind, entry), entry)
    return {kind: name for kind, (*_, name) in found.items()}


def _with_data(sizes: Mapping[str, int], graph: str) -> int:
    return sum(size for name, size in sizes.items() if name.startswith(graph))
