"""Signals and kills: streams that are open come to an end that they are told of, and nothing of roost's stays behind.

An isolate that is killed: tests/worker/test_isolates.py. A named port that is taken: test_cli_processes.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from runtime.artifacts import ArtifactStore
from tests.stress.arithmetic_model import write_arithmetic_artifact
from tests.stress.asking import REST, at, streamed
from tests.stress.conftest import Figures
from tests.stress.serving import ROOST, serving
from tests.worker.asking import ENDLESS
from tests.wrangler_compat.node_tools import copied, needs_node, roost_dev
from wrangler_compat.ending import ONE_PRESS

pytestmark = pytest.mark.stress

STREAMS = 8


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "artifacts").symlink_to(ArtifactStore().root / "artifacts")
    return tmp_path


async def streams(url: str, tokens: int, process: subprocess.Popen[str], *signals: signal.Signals) -> list[str]:
    """What the clients of eight streams have read in the end, where roost gets ``signals`` once all have begun."""
    path, headers, body = at(REST, {**ENDLESS, "max_tokens": tokens, "stream": True})
    begun = asyncio.Barrier(STREAMS + 1)

    async def one(client: httpx.AsyncClient) -> str:
        read = ""
        async with client.stream("POST", path, headers=headers, json=body) as answer:
            async for piece in answer.aiter_text():
                if not read:
                    await begun.wait()
                read += piece
        return read

    async def signalled() -> None:
        await begun.wait()
        for signum in signals:
            process.send_signal(signum)
            await asyncio.sleep(2 * ONE_PRESS)  # beyond what counts as the same

    async with httpx.AsyncClient(base_url=url, timeout=100) as client:
        *read, _ = await asyncio.gather(*(one(client) for _ in range(STREAMS)), signalled())
    return [text or "" for text in read]


@pytest.mark.weights
def test_streams_that_are_open_at_sigterm_finish_within_the_grace_time(cache: Path, figures: Figures) -> None:
    with serving(cache, "--grace", "60") as roost:
        read = asyncio.run(streams(roost.url, 12, roost.process, signal.SIGTERM))
        assert all(streamed(text) for text in read)
        assert roost.process.wait(60) == 0
        assert "Traceback" not in roost.log.read_text()
    figures["streams open at SIGTERM that came to their end"] = len(read)


@pytest.mark.weights
def test_streams_that_outlast_the_grace_time_end_with_an_error_event(cache: Path, figures: Figures) -> None:
    with serving(cache, "--grace", "0.5") as roost:
        read = asyncio.run(streams(roost.url, 3000, roost.process, signal.SIGTERM))
        assert all('"internalCode":5905' in text.splitlines()[-2] for text in read), read[0][-300:]
        assert roost.process.wait(60) == 0
        assert not list((cache / "running").glob("*.json"))
    figures["streams that outlasted the grace time, each told by an error event"] = len(read)


@pytest.mark.weights
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_roost_at_once(cache: Path, second: signal.Signals) -> None:
    """With an hour's grace, nothing else would end it."""
    with serving(cache, "--grace", "3600") as roost:
        with pytest.raises(httpx.TransportError):
            asyncio.run(streams(roost.url, 3000, roost.process, signal.SIGHUP, second))
        assert roost.process.wait(60) == 128 + second
        assert not list((cache / "running").glob("*.json"))


def test_roosts_that_are_asked_for_no_port_take_the_next_free_ones(tmp_path: Path) -> None:
    with ExitStack() as stack:
        urls = []
        for name in "abc":
            (tmp_path / name).mkdir()
            write_arithmetic_artifact(tmp_path / name)
            urls.append(stack.enter_context(serving(tmp_path / name, no_port=True)).url)
        assert len(set(urls)) == 3
        assert all(httpx.get(f"{url}/cdn-cgi/local/health").is_success for url in urls)


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    write_arithmetic_artifact(tmp_path)
    with serving(tmp_path) as roost:
        port = roost.url.rsplit(":", 1)[1]
        command = [ROOST, "serve", "--offline", "--port", port]
        second = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=60, check=False)
        assert httpx.get(f"{roost.url}/cdn-cgi/local/health").is_success
    assert (second.returncode, len(second.stderr.splitlines())) == (1, 1)


@pytest.mark.weights
@needs_node
@pytest.mark.parametrize("engine", ["wrangler", "workerd"])
@pytest.mark.parametrize("victim", ["workerd", "wrangler"])
def test_a_tool_that_is_killed_ends_roost_dev_with_a_sentence(tmp_path: Path, engine: str, victim: str) -> None:
    if engine == "workerd" and victim == "wrangler":
        pytest.skip("there is no wrangler beside --engine workerd")
    with roost_dev(copied(tmp_path) / "worker", "--engine", engine) as (tool, _):
        processes = psutil.Process(tool.process.pid).children(recursive=True)
        killed = next(process for process in processes if victim in {process.name(), launched(process)})
        killed.kill()
        assert tool.process.wait(60) == 128 + signal.SIGKILL
        tool.wait_for(rf"^Error: {victim} was killed \(SIGKILL\)")
        _, alive = psutil.wait_procs(processes, timeout=15)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def launched(process: psutil.Process) -> str:
    """What a node process was started for, by the name of its script."""
    return Path(" ".join(process.cmdline()[1:2])).stem
