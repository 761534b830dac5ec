"""What people type in a JavaScript project: ``roost dev``, ``roost env``, and their own tools in its environment."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from catalog import Catalog
from tests.worker.asking import ENDLESS, FAR_BELOW, GREEDY, MODEL
from tests.worker.live import idle_at, live
from tests.wrangler_compat.node_tools import (
    MODULES,
    NEW_NODE,
    NODE,
    QUIET,
    ROOST,
    Tool,
    copied,
    environment_for,
    needs_new_node,
    needs_node,
    roost_dev,
)
from worker import AI
from wrangler_compat.app import create_app
from wrangler_compat.marked import MARK, end_marked

pytestmark = [pytest.mark.weights, needs_node]

TOKEN = "s3cret +&"


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    return copied(tmp_path)


def below(tool: Tool) -> list[psutil.Process]:
    return psutil.Process(tool.process.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=15)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_however_roost_ends_nothing_is_left(projects: Path, by: signal.Signals) -> None:
    with roost_dev(projects / "worker") as (tool, _):
        processes = below(tool)
        assert sum("workerd" in process.name() for process in processes) >= 2
        assert any(MARK in process.environ() for process in processes)
        assert tool.end(by) == (-9 if by == signal.SIGKILL else 0)
        assert gone(processes)


@pytest.mark.parametrize("key", [b"\x03", b"x"], ids=["ctrl-c", "x"])
def test_the_terminal_is_wranglers_own(projects: Path, key: bytes) -> None:
    """Its hotkeys are shown and heard; both keys end it, and roost with it."""
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in QUIET.items() if name != "CI"}
    command = [ROOST, "dev", "--offline", "--doors-port", "0", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=projects / "worker",
        env={**environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            assert b"open a browser" in read_until(ours, b"[wrangler:info]")
            processes = psutil.Process(process.pid).children(recursive=True)
            os.write(ours, key)
            drain(ours)
            process.wait(30)
        finally:
            process.kill()
    assert gone(processes)


def read_until(terminal: int, words: bytes) -> bytes:
    """What the terminal shows until ``words``; the test's own timeout is the limit."""
    shown = b""
    while words not in shown:
        shown += os.read(terminal, 4096)
    return shown


def drain(terminal: int) -> None:
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:  # the other end is closed
        os.close(terminal)


def test_nothing_in_the_project_is_changed(projects: Path) -> None:
    before = contents(projects / "worker")
    with roost_dev(projects / "worker") as (_, worker):
        assert httpx.post(f"{worker.url}/run", json={"inputs": GREEDY}, timeout=60).json()["ok"]["response"]
    assert contents(projects / "worker") == before


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but wrangler's own state."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".wrangler" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize("engine", ["wrangler", "workerd"])
def test_vars_and_dev_vars_reach_the_worker(projects: Path, engine: str) -> None:
    with roost_dev(projects / "worker", "--engine", engine) as (_, worker):
        seen = httpx.get(f"{worker.url}/vars").json()
    assert seen == {"GREETING": "hello", "LIMITS": {"words": 3}, "SECRET": "from .dev.vars", "ai": "object"}


def test_a_browser_that_leaves_while_it_waits_is_seen_on_workerd_alone(projects: Path) -> None:
    """Under wrangler nobody notices: its workerd takes a closed connection for one that has sent all it will."""
    with roost_dev(projects / "worker", "--engine", "workerd") as (_, worker):
        assert httpx.post(f"{worker.url}/run", json={"inputs": GREEDY}, timeout=60).json()["ok"]["response"]
        before = idle_at(worker.roost)["generated_tokens"]
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{worker.url}/run", json={"inputs": ENDLESS}, timeout=1)
        assert idle_at(worker.roost)["generated_tokens"] - before < FAR_BELOW


def test_an_environment_without_ai_is_told_of(projects: Path) -> None:
    more = ["--", "--show-interactive-dev-session=false"]  # what is after -- is for wrangler
    with roost_dev(projects / "worker", "--env", "bare", *more) as (tool, worker):
        assert tool.wait_for("note: .* env.bare, which does not inherit it")
        assert httpx.get(f"{worker.url}/vars").json()["ai"] == "undefined"


@pytest.fixture
def guarded() -> Iterator[str]:
    with live(create_app(AI(), token=TOKEN)) as url:
        yield url


def test_a_roost_that_asks_for_a_token_gets_it_from_its_tools(projects: Path, guarded: str) -> None:
    environment = environment_for(guarded, token=TOKEN)
    command = [str(NODE), "list_models.mjs"]
    said = subprocess.run(
        command, cwd=projects, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    listed = {model["name"] for model in json.loads(said.stdout.splitlines()[-1])}
    assert listed
    assert listed <= Catalog.load().cards.keys()


def test_the_vitest_pool_runs_the_table(projects: Path, url: str) -> None:
    command = [str(NODE), str(MODULES / "vitest/vitest.mjs"), "run", "--root", "pool", "--reporter", "verbose"]
    environment = environment_for(url)
    said = subprocess.run(command, cwd=projects, env=environment, capture_output=True, text=True, timeout=100)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "12 passed" in said.stdout


WRANGLERS = [
    pytest.param("wrangler", NODE, ["ai", "models", "--json"], id="4.86"),
    pytest.param("wrangler-3", NODE, ["ai", "models", "--json"], id="3.114"),
    pytest.param("wrangler-newest", NEW_NODE, ["ai", "models", "list", "--json"], id="4.164", marks=needs_new_node),
]


@pytest.mark.parametrize(("package", "node", "listing"), WRANGLERS)
def test_wranglers_own_commands_see_roost(
    projects: Path, url: str, package: str, node: str | Path, listing: list[str]
) -> None:
    def wrangler(*arguments: str) -> str:
        command = [str(node), str(MODULES / package / "bin/wrangler.js"), *arguments]
        environment = environment_for(url, preload=False)
        said = subprocess.run(command, cwd=projects, env=environment, capture_output=True, text=True, timeout=60)
        assert said.returncode == 0, said.stdout + said.stderr
        return said.stdout

    listed = json.loads(wrangler(*listing))
    assert {model["name"] for model in listed} == Catalog.load().cards.keys()
    assert "roost (this machine)" in wrangler("whoami")
    if package == "wrangler-newest":
        assert '"prompt"' in wrangler("ai", "models", "schema", MODEL)


def test_the_environment_reaches_the_tools_through_a_shell(url: str) -> None:
    script = f'eval "$({ROOST} env --url {url})"; echo "$CLOUDFLARE_API_BASE_URL"; {NODE} -e "console.log(1)"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.split() == [f"{url}/client/v4", "1"]


def test_a_second_keeper_round_ends_what_left_its_group() -> None:
    """A process in a session of its own, whose parent is dead, is found by its mark."""
    mark = f"test-{time.time_ns()}"
    script = "sleep 100 >/dev/null & echo $!"
    said = subprocess.run(["setsid", "sh", "-c", script], env={**QUIET, MARK: mark}, stdout=subprocess.PIPE, timeout=5)
    orphan = psutil.Process(int(said.stdout))
    end_marked(mark)
    assert gone([orphan])
