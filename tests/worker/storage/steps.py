"""The steps, in d1.json and r2.json beside this file, with what workerd gave for each.

``python -m tests.worker.storage.make_recording`` asks it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
WORKER = (FOLDER / "worker.py").read_text(encoding="utf-8")


def recorded(kind: str) -> tuple[list[Any], list[Any]]:
    """The steps of ``d1`` or ``r2``, and what came of each."""
    pairs = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    return [step for step, _ in pairs], [told for _, told in pairs]
