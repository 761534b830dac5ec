"""Other people's clients of Workers AI against a real port: streams equal plain answers, errors bear their code.

They are heavy and each has its own dependencies, so that they live in environments of their own: ``make test-clients``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.worker.asking import GREEDY, MODEL

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "clients"
NODE = shutil.which("node")
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
_PATIENCE = 100  # seconds
NPM = ["cloudflare", "openai", "workers-ai-provider", "@ai-sdk/openai-compatible"]
PYPI = [
    "langchain-cloudflare",
    "langchain-cloudflare, as OpenAI",
    "litellm",
    "openai-agents",
    "openai-agents, responses",
    "instructor",
]
RAISED = ("BadRequestError", "APICallError", "HTTPStatusError", "InstructorRetryException")

needs_npm = pytest.mark.skipif(
    NODE is None or not (FOLDER / "node_modules").is_dir(),
    reason="needs Node.js and the npm packages that make test-clients installs",
)
needs_pypi = pytest.mark.skipif(not PYTHON.exists(), reason="needs the packages that make test-clients installs")
pytestmark = pytest.mark.weights


def told(client: str, url: str) -> dict[str, Any]:
    start = [str(PYTHON), str(FOLDER / "clients.py")] if client in PYPI else [str(NODE), str(FOLDER / "clients.mjs")]
    command = [*start, client, url, MODEL, GREEDY["prompt"]]
    run = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize(
    "client",
    [*(pytest.param(name, marks=needs_npm) for name in NPM), *(pytest.param(name, marks=needs_pypi) for name in PYPI)],
)
def test_a_client_streams_what_it_is_told_whole_calls_a_tool_and_raises_the_code(client: str, url: str) -> None:
    answer = told(client, url)
    assert answer["plain"] == answer["streamed"] != ""
    assert answer["refusal"]["name"] in RAISED
    assert "5007" in answer["refusal"]["told"]
    assert {call["city"] for call in answer["calls"]} <= {"Paris", "Rome"}
    assert all(call == answer["calls"][0] for call in answer["calls"])
    assert answer["calls"]


@needs_npm
def test_langchain_answers_streams_and_raises_though_it_shows_the_status_alone(url: str) -> None:
    answer = told("@langchain/cloudflare", url)
    assert answer["plain"]
    assert answer["streamed"]
    assert answer["refusal"]["told"].startswith("Cloudflare LLM call failed with status code 400")
