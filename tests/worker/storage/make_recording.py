"""``python -m tests.worker.storage.make_recording`` asks the installed miniflare again, and writes what it gave."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.worker.storage.steps import FOLDER, recorded
from tests.wrangler_compat.node_storage import asked


def main() -> None:
    """Write both files."""
    for kind in ("d1", "r2"):
        steps, _ = recorded(kind)
        with tempfile.TemporaryDirectory() as folder:
            told = asked(Path(folder), kind, steps)
        lines = [json.dumps(pair) for pair in zip(steps, told, strict=True)]
        (FOLDER / f"{kind}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
