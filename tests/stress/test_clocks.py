"""A clock that jumps changes no duration: what is measured or waited for goes by clocks that can't."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.stress

ROOT = Path(__file__).parent.parent.parent
POINTS_IN_TIME = {
    "wrangler_compat/pages/door.py": "how long ago a listed request began, for a person",
    "worker/front.py": "when a scheduled handler is said to run, since 1970",
    "worker/recent.py": "when a request came in, to be shown",
    "worker/bindings/rate_limit.py": "windows of the wall clock, as the platform counts",
    "worker/bindings/kv.py": "expirations, which are points in time",
    "worker/bindings/cache.py": "expirations, which are points in time",
    "worker/bindings/r2_blobs.py": "names of blobs, which sort by when they were made",
    "worker/bindings/r2_index.py": "when an object was uploaded",
    "worker/bindings/queues.py": "when a message was sent and is due, which outlasts roost",
    "worker/queues.py": "which messages are due, by the moments that are kept",
    "worker/isolate/js_dates.py": "JavaScript's Date",
    "worker/isolate/js_blobs.py": "File.lastModified",
    "worker/isolate/js_globals.py": "performance.timeOrigin",
    "worker/forms/responses.py": "created_at of OpenAI's API",
    "worker/forms/openai.py": "created of OpenAI's API",
}
"""Where the wall clock is read, and why: points in time that others see. Durations are not among them."""


def readers() -> Iterator[str]:
    for package in ("catalog", "runtime", "worker", "wrangler_compat"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if any(ast.unparse(node) in ("time.time", "time.time_ns") for node in ast.walk(tree)):
                yield path.relative_to(ROOT).as_posix()


def test_the_wall_clock_is_read_for_points_in_time_alone() -> None:
    assert set(readers()) == set(POINTS_IN_TIME)
