"""``roost`` as people start it: a process of its own, ended by a signal."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.artifacts import ArtifactStore
from tests.worker.asking import ENDLESS, GREEDY, MODEL

pytestmark = pytest.mark.weights

ROOST = str(Path(sys.executable).with_name("roost"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the usual weights, in which no other roost runs."""
    (tmp_path / "artifacts").symlink_to(ArtifactStore().root / "artifacts")
    monkeypatch.setenv("ROOST_CACHE", str(tmp_path))
    return tmp_path


def roost(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOST, *arguments], capture_output=True, text=True, timeout=100, check=False)


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A ``roost serve`` that is ready, and its address."""
    command = [ROOST, "serve", "--offline", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = next((line for line in process.stdout if line.startswith("Ready on ")), None)
        assert ready is not None, process.communicate()[1]
        yield process, ready.removeprefix("Ready on ").strip()
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], by: signal.Signals) -> str:
    """What the process wrote to stderr until it had ended."""
    process.send_signal(by)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return errors


def states(cache: Path) -> list[Path]:
    return list((cache / "running").glob("*.json"))


def test_an_answer_streams_to_stdout_and_who_gave_it_to_stderr() -> None:
    answer = roost("run", MODEL, GREEDY["prompt"], "-o", "max_tokens=4", "-o", "temperature=0")
    assert answer.returncode == 0
    assert answer.stdout.strip()
    assert answer.stderr.strip().endswith(f", standing in for {MODEL}")


def test_computing_writes_nothing_beside_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime keeps a database of events in the user's home unless it is told not to."""
    monkeypatch.setenv("ROOST_CACHE", str(ArtifactStore().root))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert roost("run", MODEL, GREEDY["prompt"], "-o", "max_tokens=1").returncode == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_mistake_has_no_traceback() -> None:
    mistaken = roost("run", "nope", "hello")
    assert (mistaken.returncode, mistaken.stdout) == (1, "")
    assert mistaken.stderr == "Error: 5007: AiError: No such model: No such model nope or task\n"


def test_a_roost_is_found_while_it_serves_and_leaves_no_trace(cache: Path) -> None:
    with serving("--port", "0", "--memory", "1") as (process, url):
        assert httpx.get(f"{url}/cdn-cgi/local/health").status_code == 200
        (state,) = states(cache)
        assert state.stat().st_mode & 0o777 == 0o600
        assert httpx.post(f"{url}/client/v4/accounts/a/ai/run/{MODEL}", json=GREEDY, timeout=60).is_success
        listed = json.loads(roost("ps", "--json").stdout)
        assert (listed["pid"], listed["url"]) == (process.pid, url)
        assert listed["loaded"][0]["names"] == [MODEL]
        assert f"roost {process.pid} at {url}" in roost("ps").stdout
        again = roost("serve", "--offline", "--port", url.rsplit(":", 1)[1])
        assert again.returncode == 1
        assert len(again.stderr.splitlines()) == 1
        assert f"port {url.rsplit(':', 1)[1]} on 127.0.0.1 can't be had" in again.stderr
        log = ended(process, signal.SIGTERM)
        assert f"POST /client/v4/accounts/a/ai/run/{MODEL} 200 OK (" in log
    assert states(cache) == []
    assert roost("ps").returncode == 1


def test_a_running_request_may_end_before_the_roost_does(cache: Path) -> None:
    with serving("--port", "0") as (process, url):
        asked = {**ENDLESS, "max_tokens": 60, "stream": True}
        with httpx.stream("POST", f"{url}/client/v4/accounts/a/ai/run/{MODEL}", json=asked, timeout=60) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            process.send_signal(signal.SIGINT)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert process.wait(60) == 0
    assert states(cache) == []


def test_ps_shows_its_token_to_a_roost_that_asks_for_one(cache: Path) -> None:
    with serving("--port", "0", "--host", "0.0.0.0", "--token", "a-secret") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}/cdn-cgi/local/ps").status_code == 401
        listed: dict[str, Any] = json.loads(roost("ps", "--json").stdout)
        assert listed["loaded"] == []
        assert "a-secret" not in json.dumps(listed)
        ended(process, signal.SIGTERM)


def test_a_killed_roosts_state_deceives_nobody(cache: Path) -> None:
    with serving("--port", "0") as (process, _):
        process.kill()
        process.communicate()
    assert len(states(cache)) == 1
    assert roost("ps").stderr == "Error: no roost is running here: type roost serve\n"


def test_a_card_of_ones_own_is_served_beside_the_shipped_ones(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cards"
    folder.mkdir()
    card = {
        "id": "x",
        "source": 2,
        "name": "@hf/me/mine",
        "description": "Mine.",
        "task": {"id": "t", "name": "Translation"},
    }
    (folder / "mine.json").write_text(json.dumps(card))
    with serving("--port", "0", "--cards", os.fspath(folder)) as (process, url):
        listed = httpx.get(f"{url}/client/v4/accounts/a/ai/models/search", params={"per_page": 1000}).json()["result"]
        assert {"@hf/me/mine", MODEL} < {model["name"] for model in listed}
        refused = httpx.post(f"{url}/client/v4/accounts/a/ai/run/@hf/me/mine", json={"text": "a"})
        assert refused.status_code == 501
        ended(process, signal.SIGTERM)


def test_an_answer_that_is_interrupted_ends_without_a_traceback() -> None:
    options = ["-o", "max_tokens=3000", "-o", "temperature=5"]
    command = [ROOST, "run", MODEL, "Go on.", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_a_project_without_wrangler_hears_that_npx_looks_for_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrangler.toml").write_text('main = "w.js"\n[ai]\nbinding = "AI"')
    for name in ("node", "npx"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 3")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ended = roost("dev", "--offline", "--doors-port", "0")
    assert ended.returncode == 3  # npx's own
    assert "npm install --save-dev wrangler" in ended.stderr
