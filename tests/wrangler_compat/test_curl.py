"""curl against a real port, as the documentation and the README write it: a stranger's first client."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.adapters import FILES
from runtime.artifacts import ArtifactStore
from runtime.pool import Pool
from tests.runtime.reference.smollm2_adapter import KIND, write_smollm2_adapter
from tests.runtime.reference.tiny_adapters import Kind
from tests.worker.asking import GREEDY, MODEL
from tests.worker.live import live
from worker import AI
from wrangler_compat.app import create_app

CURL = shutil.which("curl")
pytestmark = [pytest.mark.weights, pytest.mark.skipif(CURL is None, reason="needs curl")]

ARTIFACTS = ArtifactStore().root / "artifacts"
ACCOUNT = "/client/v4/accounts/any/ai"
ESCAPED = MODEL.replace("@", "%40").replace("/", "%2F")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running roost with the usual weights and no fine-tunes."""
    root = tmp_path_factory.mktemp("cache")
    (root / "artifacts").symlink_to(ARTIFACTS)
    with live(create_app(AI(pool=Pool(ArtifactStore(root))))) as address:
        yield address


def curl(*words: str) -> str:
    """What curl prints, the status after it."""
    command = [CURL or "curl", "-sS", "--globoff", "--max-time", "60", "-w", "\n%{http_code} %{content_type}", *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return run.stdout


def told(*words: str) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    body, _, last = curl(*words).rpartition("\n")
    status, kind = last.split(" ", 1)
    assert kind == "application/json"
    return int(status), json.loads(body)


@pytest.fixture(scope="module")
def plain(url: str) -> str:
    status, body = told(f"{url}{ACCOUNT}/run/{MODEL}", "-d", json.dumps(GREEDY))
    assert (status, body["success"]) == (200, True)
    text: str = body["result"]["response"]
    return text


@pytest.mark.parametrize("name", [MODEL, ESCAPED, ESCAPED.lower()])
@pytest.mark.parametrize(
    "way",
    [
        ["-d", json.dumps(GREEDY)],
        ["-X", "POST", "-H", "Authorization: Bearer any", "-d", json.dumps(GREEDY)],
        ["--json", json.dumps(GREEDY)],
        ["-H", "Expect: 100-continue", "-d", json.dumps(GREEDY)],
        ["-H", "Transfer-Encoding: chunked", "-d", json.dumps(GREEDY)],
        ["--http1.0", "-d", json.dumps(GREEDY)],
        ["--compressed", "-d", json.dumps(GREEDY)],
    ],
    ids=["form", "documented", "json", "expect", "chunked", "http1.0", "compressed"],
)
def test_a_run_is_the_same_however_it_is_sent(url: str, plain: str, name: str, way: list[str]) -> None:
    status, body = told(f"{url}{ACCOUNT}/run/{name}", *way)
    assert (status, body["result"]["response"]) == (200, plain)


def test_a_body_may_come_from_a_file(url: str, plain: str, tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text(json.dumps(GREEDY, indent=2))
    kind = "content-type: application/octet-stream"
    answer = told(f"{url}{ACCOUNT}/run/{MODEL}", "-H", kind, "--data-binary", f"@{tmp_path / 'body.json'}")
    assert answer[1]["result"]["response"] == plain


@pytest.mark.parametrize("path", [f"/run/{MODEL}", "/v1/chat/completions"])
def test_a_stream_comes_frame_by_frame(url: str, plain: str, path: str) -> None:
    chat = {"model": MODEL, "messages": [{"role": "user", "content": GREEDY["prompt"]}], "max_tokens": 8}
    asked = GREEDY if path.startswith("/run") else {**chat, "temperature": 0}
    printed = curl("-N", f"{url}{ACCOUNT}{path}", "-d", json.dumps({**asked, "stream": True}))
    *frames, done, last = printed.split("\n\n")
    assert (done, last) == ("data: [DONE]", "\n200 text/event-stream")
    bodies = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    deltas = (
        body["choices"][0]["delta"].get("content", "") if "choices" in body else body["response"] for body in bodies
    )
    assert "".join(deltas) == plain


REFUSED: list[tuple[list[str], int, int]] = [
    ([f"/run/{MODEL}", "-d", "{}"], 400, 5006),
    ([f"/run/{MODEL}", "-d", "prompt=hello"], 400, 5006),
    ([f"/run/{MODEL}", "-F", "prompt=hello"], 400, 5006),
    ([f"/run/{MODEL}", "-X", "POST"], 400, 5006),
    ([f"/run/{MODEL}", "--data-binary", "@/dev/null"], 400, 5006),
    ([f"/run/{MODEL}", "-d", json.dumps({**GREEDY, "max_tokens": 5000, "stream": True})], 413, 5021),
    (["/run/@cf/no/such", "-d", json.dumps(GREEDY)], 400, 5007),
    (["/run/@cf%2Fno%2Fsuch", "-d", json.dumps(GREEDY)], 400, 5007),
    (["/run/", "-d", json.dumps(GREEDY)], 400, 5007),
    ([f"/run/{MODEL}"], 405, 7001),
    ([f"/run/{MODEL}", "-X", "DELETE"], 405, 7001),
    (["/v1/nothing", "-d", "{}"], 404, 7003),
]


@pytest.mark.parametrize(("words", "status", "code"), REFUSED)
def test_a_refusal_is_an_envelope_with_its_status(url: str, words: list[str], status: int, code: int) -> None:
    path, *rest = words
    answered, body = told(f"{url}{ACCOUNT}{path}", *rest)
    assert (answered, body["success"], body["errors"][0]["code"]) == (status, False, code)


def test_an_adapter_is_created_uploaded_and_named(url: str, plain: str, tmp_path: Path) -> None:
    write_smollm2_adapter(tmp_path, kind=Kind(KIND.targets, {"r": 8, "lora_alpha": 1.0}))
    form = json.dumps({"model": MODEL, "name": "mine", "description": "words"})
    made = told(f"{url}{ACCOUNT}/finetunes/", "-d", form)[1]["result"]
    for name in FILES:
        upload = [f"{url}{ACCOUNT}/finetunes/{made['id']}/finetune-assets/", "-X", "POST"]
        status, body = told(*upload, "-F", f"file_name={name}", "-F", f"file=@{tmp_path / name}")
        assert (status, body["result"]) == (200, {"success": True})
    answer = told(f"{url}{ACCOUNT}/run/{MODEL}", "-d", json.dumps({**GREEDY, "lora": "mine"}))
    assert answer[1]["result"]["response"] != plain


def test_a_document_becomes_markdown(url: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<h1>Title</h1><p>Some <b>words</b>.</p>")
    status, body = told(f"{url}{ACCOUNT}/tomarkdown", "-F", f"files=@{tmp_path / 'page.html'}")
    (made,) = body["result"]
    assert (status, made["format"]) == (200, "markdown")
    assert made["data"].split() == ["#", "Title", "Some", "**words**."]
