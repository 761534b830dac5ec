"""``roost serve --record``, ``--replay``, ``--fault`` and ``roost usage``, as commands."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from runtime.artifacts import ArtifactStore
from tests.worker.asking import GREEDY, MODEL
from tests.wrangler_compat.node_tools import ROOST, tool
from wrangler_compat.cli import main
from wrangler_compat.interposing import interposers

pytestmark = pytest.mark.weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test's own, with the weights of the real one: other roosts leave word of themselves there."""
    artifacts = ArtifactStore().root / "artifacts"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "artifacts").symlink_to(artifacts)
    monkeypatch.setenv("ROOST_CACHE", str(tmp_path / "cache"))


@contextmanager
def serving(folder: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[str]:
    with tool([ROOST, "serve", "--port", "0", *options], folder, {**os.environ, **(environment or {})}) as roost:
        yield roost.wait_for(r"Ready on (\S+)")
        roost.end()


def ask(url: str) -> httpx.Response:
    return httpx.post(f"{url}/client/v4/accounts/any/ai/run/{MODEL}", json=GREEDY, timeout=60)


def test_what_is_recorded_is_replayed_without_weights(tmp_path: Path) -> None:
    recordings = str(tmp_path / "recordings")
    with serving(tmp_path, "--record", recordings) as url:
        recorded = ask(url).json()
        told = subprocess.run([ROOST, "usage", "--json"], capture_output=True, text=True, check=True).stdout
        shown = subprocess.run([ROOST, "usage"], capture_output=True, text=True, check=True).stdout
    (row,) = json.loads(told)["models"]
    assert (row["model"], row["requests"], row["completion_tokens"], row["neurons"]) == (MODEL, 1, 8, None)
    assert "no price" in shown
    empty = {"ROOST_CACHE": str(tmp_path / "empty")}
    with serving(tmp_path, "--replay", recordings, environment=empty) as url:
        assert ask(url).json() == recorded


def test_a_fault_reaches_the_client(tmp_path: Path) -> None:
    with serving(tmp_path, "--fault", "3040:1") as url:
        answer = ask(url)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (429, 3040)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fault", "nonsense"], "write it as CODE:0.1"),
        (["--record", "a", "--replay", "b"], "exclude each other"),
        (["--replay", "nowhere"], "no folder of recordings"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["serve", *options])
    assert result.exit_code == 1
    assert said in result.stderr.splitlines()[-1]


def test_nothing_stands_between_unless_it_is_asked_for() -> None:
    assert interposers(None, None, (), 0) == ()
