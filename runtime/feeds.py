"""What a foreign decoder is given beside its cache: tokens, masks and positions, by its graph's names for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.graph_interface import BRANCH, IDS, KEEP, MASK, POSITIONS, GraphInterface
from runtime.scheduler import Span


def feeds(interface: GraphInterface, spans: tuple[Span, ...]) -> dict[str, NDArray[Any]]:
    """The inputs of a step over ``spans``, rows of equally many tokens each, whatever their caches hold.

    Ids and positions ``[rows, tokens]``; a mask ``[rows, longest row]`` of ones where a row has tokens, then zeros.
    """
    length = len(spans[0].tokens)
    starts = np.array([span.start for span in spans], np.int64)[:, None]
    ends = starts + length
    values: dict[str, Any] = {
        IDS: np.array([span.tokens for span in spans]),
        MASK: np.arange(ends.max()) < ends,
        POSITIONS: starts + np.arange(length),
        BRANCH: np.array([starts.max() > 0]),
        **dict.fromkeys(KEEP, np.array(max(1, max(span.wanted for span in spans)))),
    }
    return {name: np.array(values[name], type_, order="C") for name, type_ in interface.inputs}
