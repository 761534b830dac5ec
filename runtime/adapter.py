"""A LoRA adapter as the engine carries it: plain data whose arrays only the session looks into."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PANEL = 16
"""Ranks that lie side by side in a factor's array."""
SCALE = 2
"""What each factor is multiplied by beforehand; both products halve it again, which loses no bit."""

_serials = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Adapter:
    """Low-rank factors for some of a decoder's products, in the form that an adapted graph reads (``lora_graph``).

    ``key`` says what it is, for the reuse of prompts; ``name`` is for people. ``widths``: the inputs and outputs of
    each kind of product that it changes (``qkv``, ``o``, ``gate_up``, ``down``). ``factors`` by product
    (``layer3.qkv``): two float arrays ``a [panels, inputs, 16]`` and ``b [panels * 16, outputs]``.
    """

    key: str
    name: str
    rank: int
    widths: Mapping[str, tuple[int, int]]
    factors: Mapping[str, tuple[Any, Any]]
    serial: int = field(default_factory=_serials.__next__)
    """Another for each that was ever loaded, so that memory which was freed is never taken for what is there."""

    @property
    def size(self) -> int:
        """Bytes of the factors."""
        return sum(a.nbytes + b.nbytes for a, b in self.factors.values())
