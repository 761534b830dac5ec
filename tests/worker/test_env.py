"""``from worker import env`` in a script: it answers, it obeys the environment, and it ends without a sound."""

import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.worker.asking import GREEDY, MODEL, answer
from worker import AI, AiError
from worker.env import Env

ROOT = Path(__file__).parents[2]

ASK = f"""
import asyncio
from worker import env

async def main():
    result = await env.AI.run("{MODEL}", {{"prompt": "hello", "max_tokens": 4, "temperature": 0}})
    print(result["response"])

asyncio.run(main())
"""
LEAVE = f"""
import asyncio
from worker import env

async def main():
    stream = await env.AI.run("{MODEL}", {{"prompt": "hello", "max_tokens": 3000, "temperature": 5, "stream": True}})
    async for frame in stream:
        print("left", flush=True)
        raise SystemExit(3)

asyncio.run(main())
"""
FORGET = f"""
import asyncio
from worker import env

async def main():
    kept = asyncio.create_task(env.AI.run("{MODEL}", {{"prompt": "hello", "max_tokens": 3000, "temperature": 5}}))
    while not env.AI.loaded() or not env.AI.loaded()[0].stats().running:
        await asyncio.sleep(0.001)
    print("forgotten", flush=True)

asyncio.run(main())
"""


def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.weights
@pytest.mark.parametrize(("source", "code"), [(ASK, 0), (LEAVE, 3), (FORGET, 0)], ids=["ask", "leave", "forget"])
def test_a_script_ends_without_a_traceback(source: str, code: int) -> None:
    ended = script("-c", source)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert len(ended.stdout.splitlines()) >= 1


@pytest.mark.weights
def test_the_example_answers_the_question_it_is_asked() -> None:
    ended = script(str(ROOT / "examples" / "ask.py"), "Say", "yes.")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"{MODEL}\nanswered by " in ended.stdout
    assert "> Say yes." in ended.stdout
    assert "tokens read" in ended.stdout


def test_a_script_without_weights_ends_with_the_sentence_alone() -> None:
    ended = script(str(ROOT / "examples" / "ask.py"), ROOST_STAND_IN="0")
    assert ended.returncode == 1
    assert ended.stderr.startswith("5901: AiError: roost: ")
    assert "roost pull" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.weights
async def test_the_environment_names_a_running_roost(url: str, ai: AI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_URL", url)
    async with aclosing(Env().AI) as binding:
        assert await answer(binding, GREEDY) == await answer(ai, GREEDY)
        assert binding.loaded() == []


async def test_the_environment_forbids_the_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_STAND_IN", "0")
    with pytest.raises(AiError, match="has no weights here: type roost pull"):
        await Env().AI.run(MODEL, GREEDY)


async def test_the_environment_names_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_DEVICE", "abacus")
    with pytest.raises(AiError, match="'abacus' is no device"):
        await Env().AI.run(MODEL, GREEDY)


async def test_an_empty_cache_says_what_to_pull(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROOST_CACHE", str(tmp_path))
    with pytest.raises(AiError, match="type roost pull --stand-in"):
        await Env().AI.run(MODEL, GREEDY)


def test_a_binding_that_a_script_has_not_is_named() -> None:
    with pytest.raises(AttributeError, match="env has no binding KV"):
        _ = Env().KV
