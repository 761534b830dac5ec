"""Which waiting texts are read together: those of about one length, so that little is spent on filling rows up.

Plain data; knows neither sessions nor threads.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_ROWS = 32
MOST_TOKENS = 1024
"""Of a batch, filling included, where it has more than one row: more isn't faster, and everybody waits for a step."""
_FINEST = 8


def bucket(length: int) -> int:
    """The longest length that shares batches with ``length``: steps of a quarter between powers of two, 8 at least.

    So a row is filled up by less than a quarter of its length, or by at most 7 tokens.
    """
    step = max(_FINEST, 1 << max(0, (length - 1).bit_length() - 3))
    return -(-length // step) * step


def choose(lengths: Sequence[int]) -> list[int]:
    """The places in ``lengths``, oldest first, of the next batch: the oldest and others of its bucket."""
    size = bucket(lengths[0])
    rows = max(1, min(MOST_ROWS, MOST_TOKENS // size))
    return [place for place, length in enumerate(lengths) if bucket(length) == size][:rows]
