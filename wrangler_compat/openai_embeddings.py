"""OpenAI's list of embeddings, from the platform's result."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any


def embeddings_list(model: str, result: Any, *, as_base64: bool) -> dict[str, Any]:
    """``result`` is ``{"shape": [n, d], "data": n lists of d numbers}``; base64 holds little-endian float32."""
    rows = [
        {"object": "embedding", "index": place, "embedding": _packed(vector) if as_base64 else vector}
        for place, vector in enumerate(result["data"])
    ]
    tokens = (result.get("usage") or {}).get("prompt_tokens", 0)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": model, "usage": usage}


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
