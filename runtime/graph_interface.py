"""What a decoder's graph reads and writes: told from the names, types and shapes of its inputs and outputs.

For graphs made elsewhere: by optimum, by onnxruntime-genai's builder, or found on the hub. Plain data: knows neither
ONNX's files nor ONNX Runtime. What can't be served is refused in one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.errors import ArtifactError

IDS, MASK, POSITIONS, BRANCH, LOGITS = "input_ids", "attention_mask", "position_ids", "use_cache_branch", "logits"
KEEP = ("num_logits_to_keep", "logits_to_keep")
"""Names under which a graph asks how many positions' logits are wanted."""

Layout = Literal["own", "in_place", "concat"]
"""How a cache is kept: by our own graphs, in place by masks of the past, or as outputs that grow by what was read."""

CacheType = Literal["float32", "float16"]
_OWN = {IDS, "seqlens_k", "total_seq", "logit_idx"}
_RANKS = {IDS: 2, MASK: 2, POSITIONS: 2, BRANCH: 1, **dict.fromkeys(KEEP, 0)}
_INTEGERS = ("int64", "int32")
_BYTES = {"float32": 4, "float16": 2}
_SIDES = {"key": "key", "value": "value", "k": "key", "v": "value"}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output: its numpy type, and its shape, whose unknown sizes are names (or ``""``)."""

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes that a graph may leave open, from the files beside it; ``None`` where they don't say."""

    kv_heads: int | None = None
    head_dim: int | None = None
    vocab: int | None = None


@dataclass(frozen=True, slots=True)
class CacheTensor:
    """One side of one layer: input ``past`` and output ``present``; ``shape`` is that of a row without tokens."""

    past: str
    present: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GraphInterface:
    """How a foreign decoder is fed. ``inputs``: name and numpy type of those beside the cache.

    ``axis``: which axis of a cache tensor counts tokens. ``last_only``: logits come for the last position alone.
    """

    layout: Layout
    inputs: tuple[tuple[str, str], ...]
    cache: tuple[CacheTensor, ...]
    axis: int
    cache_type: CacheType
    logits_type: CacheType
    vocab: int
    last_only: bool

    @property
    def layers(self) -> int:
        """How many layers keep keys and values."""
        return len(self.cache) // 2

    @property
    def keeps(self) -> bool:
        """Whether the graph is told how many positions' logits are wanted, and gives no others."""
        return any(name in KEEP for name, _ in self.inputs)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token takes over all layers."""
        values = (math.prod(size for place, size in enumerate(t.shape) if place != self.axis) for t in self.cache)
        return sum(values) * _BYTES[self.cache_type]


def describe(
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    *,
    in_place: Iterable[tuple[str, str]] = (),
    sizes: Sizes | None = None,
) -> GraphInterface:
    """How to feed a graph with these inputs and outputs; :class:`ArtifactError` names what can't be served.

    ``in_place``: the pasts, each with its present, that the graph can update where they lie.
    """
    sizes, given = sizes or Sizes(), {tensor.name: tensor for tensor in inputs}
    _refuse_other_models(given, outputs)
    logits = _logits(outputs)
    pairs = _pairs(inputs, outputs)
    beside = [tensor for tensor in inputs if tensor.name not in {past.name for past, _ in pairs}]
    own = {tensor.name for tensor in beside} >= _OWN
    if not own:
        _check_inputs(beside)
    axis = _one_of({_token_axis(past, present) for past, present in pairs}, "its cache counts tokens on several axes")
    cache = tuple(CacheTensor(past.name, present.name, _row(past, axis, sizes)) for past, present in pairs)
    updated = set(in_place) >= {(past.name, present.name) for past, present in pairs}
    free_rows = isinstance(given[IDS].shape[0], str)
    return GraphInterface(
        layout="own" if own else "in_place" if updated and axis == 2 and free_rows else "concat",
        inputs=tuple((tensor.name, tensor.type) for tensor in beside),
        cache=cache,
        axis=axis,
        cache_type=_float_type({past.type for past, _ in pairs}, "its cache of keys and values"),
        logits_type=_float_type({logits.type}, "its logits"),
        vocab=_size(logits.shape[-1], sizes.vocab, "how many tokens its vocabulary has"),
        last_only=len(logits.shape) == 3 and logits.shape[1] == 1,
    )


def _refuse_other_models(given: Mapping[str, TensorInfo], outputs: Sequence[TensorInfo]) -> None:
    if any(name.startswith("encoder_") or ".encoder." in name for name in given):
        raise ArtifactError("the graph is half of an encoder-decoder, which isn't served")
    if IDS not in given and "inputs_embeds" in given:
        raise ArtifactError("the graph reads embeddings (inputs_embeds), not tokens: such decoders aren't served")
    if IDS not in given:
        raise ArtifactError(f"the graph has no input {IDS}: it reads {', '.join(given) or 'nothing'}")
    if not any(tensor.name == LOGITS for tensor in outputs):
        found = ", ".join(tensor.name for tensor in outputs) or "nothing"
        raise ArtifactError(f"the graph gives no {LOGITS}, so it is no decoder of text: it gives {found}")


def _logits(outputs: Sequence[TensorInfo]) -> TensorInfo:
    logits = next(tensor for tensor in outputs if tensor.name == LOGITS)
    if len(logits.shape) not in (2, 3):
        raise ArtifactError(f"the graph's logits have {len(logits.shape)} dimensions, which isn't served")
    return logits


def _pairs(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> list[tuple[TensorInfo, TensorInfo]]:
    """The pasts, each with the present of the same layer and side, whatever their order."""
    pasts = {place: t for t in inputs if (place := _place(t.name, "past")) is not None}
    presents = {place: t for t in outputs if (place := _place(t.name, "present")) is not None}
    if not pasts:
        raise ArtifactError("the graph keeps no keys and values: export it with its past (text-generation-with-past)")
    layers = {layer for layer, _ in pasts}
    wanted = {(layer, side) for layer in range(len(layers)) for side in ("key", "value")}
    if set(pasts) != wanted or not set(presents) >= wanted:
        named = ", ".join(sorted(f"{layer}.{side}" for layer, side in set(pasts) ^ (wanted & set(presents))))
        raise ArtifactError(f"the graph's pasts and presents don't pair: {named}")
    return [(pasts[place], presents[place]) for place in sorted(pasts)]


def _place(name: str, kind: str) -> tuple[int, str] | None:
    """The layer and the side that ``past_key_values.3.key``, ``past.3.k`` or ``present.3.value`` name."""
    prefix, *rest = name.split(".")
    if not prefix.startswith(kind) or len(rest) != 2 or not rest[0].isdigit() or rest[1] not in _SIDES:
        return None
    return int(rest[0]), _SIDES[rest[1]]


def _check_inputs(beside: Sequence[TensorInfo]) -> None:
    if unknown := [tensor.name for tensor in beside if tensor.name not in _RANKS]:
        raise ArtifactError(f"the graph wants inputs that roost doesn't know: {', '.join(unknown)}")
    for tensor in beside:
        if len(tensor.shape) != _RANKS[tensor.name]:
            raise ArtifactError(f"the graph's {tensor.name} has {len(tensor.shape)} dimensions, which isn't served")
        if tensor.type not in (("bool",) if tensor.name == BRANCH else _INTEGERS):
            raise ArtifactError(f"the graph's {tensor.name} is {tensor.type}, which isn't served")
    ids = next(tensor for tensor in beside if tensor.name == IDS)
    if ids.shape[0] != 1 and not isinstance(ids.shape[0], str):
        raise ArtifactError(f"the graph reads {ids.shape[0]} rows at once, neither one nor any number")
    if not isinstance(ids.shape[1], str):
        raise ArtifactError(f"the graph reads {ids.shape[1]} tokens at a time, not any number of them")


def _token_axis(past: TensorInfo, present: TensorInfo) -> int:
    """The axis that grows: of those whose size is open the only one, or the one that past and present name apart."""
    if len(past.shape) != 4 or len(present.shape) != 4:
        raise ArtifactError(f"the graph's {past.name} has {len(past.shape)} dimensions; 4 are served")
    open_axes = [axis for axis in (1, 2, 3) if isinstance(past.shape[axis], str)]
    if len(open_axes) > 1:
        open_axes = [axis for axis in open_axes if past.shape[axis] != present.shape[axis]]
    if len(open_axes) != 1 or open_axes == [3]:
        shape = ", ".join(str(size or "?") for size in past.shape)
        raise ArtifactError(f"the graph's {past.name} is [{shape}], which tells no axis of tokens")
    return open_axes[0]


def _row(past: TensorInfo, axis: int, sizes: Sizes) -> tuple[int, ...]:
    heads = _size(past.shape[3 - axis], sizes.kv_heads, f"how many heads {past.name} has")
    dim = _size(past.shape[3], sizes.head_dim, f"how wide the heads of {past.name} are")
    return (1, heads, 0, dim) if axis == 2 else (1, 0, heads, dim)


def _size(stated: int | str, otherwise: int | None, what: str) -> int:
    size = stated if isinstance(stated, int) else otherwise
    if size is None:
        raise ArtifactError(f"neither the graph nor a config.json beside it says {what}")
    return size


def _float_type(types: set[str], what: str) -> CacheType:
    match sorted(types):
        case ["float32"]:
            return "float32"
        case ["float16"]:
            return "float16"
    raise ArtifactError(f"{what} are {' and '.join(sorted(types))}; float32 and float16 are served")


def _one_of(found: set[int], otherwise: str) -> int:
    if len(found) != 1:
        raise ArtifactError(otherwise)
    return found.pop()
