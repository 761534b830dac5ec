"""Version metadata: which version of a Worker runs, and since when."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from worker.bindings.binding import Binding


class VersionMetadata(Binding):
    """A version that begins now, of no tag."""

    def __init__(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._value = {"id": str(uuid.uuid4()), "tag": "", "timestamp": now}

    def described(self) -> dict[str, Any]:
        """See :meth:`Binding.described`."""
        return {"kind": "variable", "value": self._value}
