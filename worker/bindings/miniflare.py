"""Where miniflare keeps what it stores, so that ``wrangler dev`` and roost find each other's.

Its storage is that of Durable Objects, whose files are named by their ids.
"""

from __future__ import annotations

import hashlib
import hmac


def object_id(unique_key: str, name: str) -> str:
    """The id, in hex, of the object ``name`` of a class with this unique key (miniflare's plugins/shared)."""
    key = hashlib.sha256(unique_key.encode()).digest()
    first = hmac.digest(key, name.encode(), "sha256")[:16]
    return (first + hmac.digest(key, first, "sha256")[:16]).hex()
