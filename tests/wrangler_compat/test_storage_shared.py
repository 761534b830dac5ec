"""roost's D1 and R2 beside miniflare's: the recording is what it gives, and each finds what the other has stored."""

from pathlib import Path
from typing import Any

import pytest

from tests.worker.python_workers import serving
from tests.worker.storage.steps import WORKER, recorded
from tests.wrangler_compat.node_storage import asked
from tests.wrangler_compat.node_tools import needs_node
from worker.bindings.d1 import D1Database, database_file
from worker.bindings.r2 import R2Bucket

pytestmark = needs_node
_PART = {"$text": "x", "$times": 5 << 20}


@pytest.mark.parametrize("kind", ["d1", "r2"])
def test_the_recording_is_what_miniflare_gives(tmp_path: Path, kind: str) -> None:
    steps, expected = recorded(kind)
    assert asked(tmp_path, kind, steps) == expected


async def through_roost(state: Path, kind: str, steps: list[Any]) -> list[Any]:
    bindings = {"DB": D1Database(database_file(state, "the-id")), "BUCKET": R2Bucket(state, "the-bucket")}
    async with serving(state / "worker", WORKER, bindings=bindings) as client:
        told: list[Any] = (await client.post("/", json={"kind": kind, "steps": steps})).json()
    return told


async def test_rows_are_shared_with_miniflare(tmp_path: Path) -> None:
    made = await through_roost(tmp_path, "d1", [["exec", "CREATE TABLE t (a)"], ["exec", "INSERT INTO t VALUES (1)"]])
    assert made == [{"gives": 1}, {"gives": 1}]
    there = asked(tmp_path, "d1", [["raw", None, "SELECT a FROM t"], ["exec", "INSERT INTO t VALUES ('two')"]])
    assert there == [{"gives": [[1]]}, {"gives": 1}]
    assert await through_roost(tmp_path, "d1", [["raw", None, "SELECT a FROM t"]]) == [{"gives": [[1], ["two"]]}]


async def test_objects_are_shared_with_miniflare(tmp_path: Path) -> None:
    steps: list[Any] = [
        ["put", "a", "ours", {"httpMetadata": {"cacheExpiry": {"$date": 5000}}, "customMetadata": {"n": "v"}}],
        ["upload", "b", None, [[1, _PART], [2, "tail"]], [1, 2]],
        ["get", "a"],
        ["get", "b", {"range": {"suffix": 6}}],
    ]
    ours = await through_roost(tmp_path, "r2", steps)
    theirs = asked(tmp_path, "r2", [*steps[2:], ["put", "c", "theirs"], ["put", "b", "short"], ["delete", "a"]])
    assert theirs[:2] == ours[2:]
    found = await through_roost(tmp_path, "r2", [["get", "c"], ["get", "b"], ["get", "a"]])
    assert [each["gives"] and each["gives"]["text"] for each in found] == ["theirs", "short", None]
