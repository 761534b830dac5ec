"""Refuses dimensions that no decoder can have, before memory is taken for them. Knows no file format."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.config import DecoderShape
from runtime.errors import ArtifactError

LONGEST_CONTEXT = 1 << 20
"""Tokens; rotary tables are made for each of them, 64 MB for 128 thousand."""
MOST_LAYERS, WIDEST_HEAD, MOST = 1 << 12, 1 << 14, 1 << 24
"""What keeps the tables that are made of a number within reason: for layers, a head's values, all other counts."""
_MOST = {"layers": MOST_LAYERS, "head_dim": WIDEST_HEAD}
_COUNTED = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "context")
_HEAD_MULTIPLE = 16  # GroupQueryAttention's


def checked(shape: DecoderShape, source: str) -> DecoderShape:
    """``shape``, whose numbers make sense together.

    Raises :class:`ArtifactError`, which names ``source`` and the number.
    """
    for name in _COUNTED:
        within(getattr(shape, name), name, source, _MOST.get(name, MOST))
    if shape.head_dim % _HEAD_MULTIPLE:
        raise ArtifactError(f"heads of {shape.head_dim} values aren't served: a multiple of {_HEAD_MULTIPLE} is needed")
    if shape.heads % shape.kv_heads:
        raise ArtifactError(f"{source} states {shape.heads} heads that share {shape.kv_heads}, which can't be")
    if shape.rotary_dim is not None and not 0 < shape.rotary_dim <= shape.head_dim:
        raise ArtifactError(f"{source} rotates {shape.rotary_dim} of a head's {shape.head_dim} values, which can't be")
    if shape.window is not None and shape.window < 1:
        raise ArtifactError(f"{source} states a sliding window of {shape.window} tokens, which can't be")
    factors = (shape.rope_theta, shape.norm_epsilon, shape.rope_scale, *shape.rope_factors)
    if not all(0 < factor < math.inf for factor in factors):
        raise ArtifactError(f"{source} states a rotary base, a rotary factor or a norm's epsilon that isn't above 0")
    if not math.isfinite(shape.attention_softcap + shape.logit_softcap + (shape.attention_scale or 0)):
        raise ArtifactError(f"{source} states a scale or a cap that isn't a number")
    return shape


def within(number: int, name: str, source: str, most: int) -> int:
    """``number``, which must be from 1 to ``most``. Raises :class:`ArtifactError`, which names ``source``."""
    if not 0 < number <= most:
        raise ArtifactError(f"{source} states {number} for {name}, which can't be")
    return number


@contextmanager
def misstatements(source: str) -> Iterator[None]:
    """Whatever a value of another kind than expected brings about becomes one sentence on ``source``."""
    try:
        yield
    except ArtifactError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).splitlines()[:3])
        raise ArtifactError(f"{source} holds a value of another kind than expected: {reason}") from error
    except Exception as error:
        if type(error) is not Exception:  # tokenizers, which builds what is read, raises nothing narrower
            raise
        raise ArtifactError(f"{source} holds a tokenizer that can't be built: {error}") from error
