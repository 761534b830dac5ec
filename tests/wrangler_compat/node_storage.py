"""D1 and R2 in the real miniflare."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.wrangler_compat.node_tools import NODE, NODE_TESTS, QUIET


def asked(state: Path, kind: str, steps: Sequence[Any]) -> list[Any]:
    """What comes of each of the steps (see tests/worker/storage/steps.py), with what is stored in ``state``."""
    sent = state / f"{kind}-steps.json"
    sent.write_text(json.dumps({"kind": kind, "steps": list(steps)}), encoding="utf-8")
    command = [str(NODE), str(NODE_TESTS / "storage.mjs"), str(state), str(sent)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True, env=QUIET)
    told: list[Any] = json.loads(ended.stdout.splitlines()[-1])
    return told
