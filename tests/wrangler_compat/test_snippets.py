"""The code that the pages show works when it is pasted: each snippet runs, against a real port."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.worker.asking import MODEL
from tests.worker.live import live
from tests.wrangler_compat.node_tools import NODE, NODE_TESTS, needs_node, roost_dev
from worker import AI
from wrangler_compat.app import create_app
from wrangler_compat.pages.render import STATIC_FOLDER
from wrangler_compat.pages.snippets import example, snippets, written

pytestmark = pytest.mark.weights

CARD = AI().catalog[MODEL]
HARD: dict[str, Any] = {
    "messages": [{"role": "user", "content": 'It\'s "hard" — «ü» $HOME `x` \\n \n\t %s {} 😀'}],
    "max_tokens": 4,
    "seed": 3,
    "top_k": 5,
    "temperature": 0.25,
}
PROMPT: dict[str, Any] = {"prompt": "It's a 'prompt'", "raw": True, "max_tokens": 4}
CASES = [example(CARD), HARD, PROMPT]


def code_of(name: str, url: str, inputs: dict[str, Any], *, token: bool = False) -> str:
    (found,) = [snippet for snippet in snippets(CARD, url, token=token) if snippet.name == name]
    return found.filled(inputs)


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("inputs", CASES, ids=["example", "hard", "prompt"])
def test_curl(url: str, inputs: dict[str, Any]) -> None:
    answer = json.loads(run("sh", "-c", code_of("curl", url, inputs)))
    assert answer["success"] is True
    assert answer["result"]["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("inputs", CASES, ids=["example", "hard", "prompt"])
def test_python_with_roosts_own(url: str, inputs: dict[str, Any]) -> None:
    assert "'usage'" in run(sys.executable, "-c", code_of("python", url, inputs))


@pytest.mark.parametrize("inputs", CASES, ids=["example", "hard", "prompt"])
def test_python_with_openais(url: str, inputs: dict[str, Any]) -> None:
    assert run(sys.executable, "-c", code_of("openai", url, inputs)).strip()


@needs_node
@pytest.mark.parametrize("inputs", CASES, ids=["example", "hard", "prompt"])
def test_a_worker_in_javascript(tmp_path: Path, inputs: dict[str, Any]) -> None:
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/index.js").write_text(code_of("javascript", "", inputs), encoding="utf-8")
    told = 'name = "pasted"\nmain = "src/index.js"\ncompatibility_date = "2026-01-01"\n\n[ai]\nbinding = "AI"\n'
    (project / "wrangler.toml").write_text(told, encoding="utf-8")
    (project / "node_modules").symlink_to(NODE_TESTS / "node_modules")
    with roost_dev(project, "--engine", "workerd") as (_, worker):
        answer = httpx.get(worker.url, timeout=60).json()
    assert answer["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("name", ["curl", "python", "openai"])
def test_with_a_token_they_take_it_from_the_environment(name: str) -> None:
    with live(create_app(AI(), token="a 'secret'")) as url:
        code = code_of(name, url, {**HARD, "max_tokens": 2}, token=True)
        assert "secret" not in code
        command = ("sh", "-c", code) if name == "curl" else (sys.executable, "-c", code)
        assert "error" not in run(*command, ROOST_TOKEN="a 'secret'").lower().replace('"errors":[]', "")


@needs_node
@pytest.mark.parametrize("inputs", CASES, ids=["example", "hard", "prompt"])
@pytest.mark.parametrize("notation", ["shell", "javascript", "python", "keywords"])
def test_the_browser_writes_them_as_the_server_does(notation: Any, inputs: dict[str, Any]) -> None:
    """Code of both means the same: shells and languages read it back."""
    script = (
        f"import {{ filled }} from {json.dumps((STATIC_FOLDER / 'notation.js').as_uri())};"
        f"process.stdout.write(filled('__INPUTS__', {json.dumps(notation)}, {json.dumps(inputs)}));"
    )
    theirs = run(str(NODE), "--input-type=module", "-e", script)
    assert READ[notation](theirs) == READ[notation](written(inputs, notation))


def _shell(code: str) -> Any:
    return json.loads(run("sh", "-c", f"printf %s {code}"))


READ: dict[str, Callable[[str], Any]] = {
    "shell": _shell,
    "javascript": json.loads,
    "python": lambda code: eval(code, {}),
    "keywords": lambda code: eval(f"dict(\n{code})", {}),
}
