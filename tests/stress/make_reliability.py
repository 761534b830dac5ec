"""``make stress``: the long form of these tests, and its figures in docs/reliability.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.machine import processor

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
_TABLE = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def main() -> int:
    """Run, and write the figures where all held."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "pytest", "-m", "stress", "tests/stress"]
        environment = {**os.environ, "STRESS": "long", "STRESS_FIGURES": str(kept)}
        status = subprocess.run(command, env=environment, check=False).returncode
        if status == 0:
            write(json.loads(kept.read_text(encoding="utf-8")))
    return status


def write(figures: dict[str, object]) -> None:
    """Put the figures into the page's table."""
    rows = "".join(f"| {what} | {value} |\n" for what, value in figures.items())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    table = f"On {cores} cores of {processor()}:\n\n| what | how much |\n|---|---|\n{rows}"
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_TABLE.sub(lambda found: f"{found[1]}{table}{found[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
