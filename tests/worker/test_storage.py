"""D1 and R2 as a Worker meets them, beside what workerd and miniflare gave for the same calls."""

import json
from pathlib import Path

import pytest

from tests.worker.python_workers import serving
from tests.worker.storage.steps import WORKER, recorded
from worker.bindings.d1 import D1Database
from worker.bindings.r2 import R2Bucket


@pytest.mark.parametrize("kind", ["d1", "r2"])
async def test_a_worker_gets_what_workerd_gives(tmp_path: Path, kind: str) -> None:
    steps, expected = recorded(kind)
    bindings = {"DB": D1Database(tmp_path / "a.sqlite"), "BUCKET": R2Bucket(tmp_path, "b")}
    async with serving(tmp_path / "w", WORKER, bindings=bindings) as client:
        answer = await client.post("/", json={"kind": kind, "steps": steps})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    differs = [
        f"{json.dumps(step)[:200]}\n    workerd {json.dumps(there)[:600]}\n    roost   {json.dumps(here)[:600]}"
        for step, there, here in zip(steps, expected, told, strict=True)
        if there != here
    ]
    assert not differs, "\n".join(differs)
