"""The projects under examples/ do what their READMEs say, unchanged, under ``roost dev``."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from catalog import Catalog
from tests.wrangler_compat.node_tools import MODULES, needs_node, roost_dev

pytestmark = [pytest.mark.weights, needs_node]

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@contextmanager
def running(name: str, folder: Path) -> Iterator[httpx.Client]:
    shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("node_modules", ".wrangler"))
    (folder / "node_modules").symlink_to(MODULES)
    with roost_dev(folder / name) as (_, worker), httpx.Client(base_url=worker.url, timeout=100) as client:
        yield client


def test_the_chat_has_a_page_and_streams(tmp_path: Path) -> None:
    with running("chat", tmp_path) as client:
        it_chats(client)


def it_chats(client: httpx.Client) -> None:
    """The page is there, an answer streams, and a mistake is told."""
    assert "<title>Chat</title>" in client.get("/").text
    answer = client.post("/chat", json={"messages": [{"role": "user", "content": "Hello"}]})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text.endswith("data: [DONE]\n\n")
    refused = client.post("/chat", json={"messages": [{"role": "user"}]})
    assert (refused.status_code, refused.json()["error"][:5]) == (502, "5006:")
    assert client.get("/chat").status_code == 404


def test_the_summariser_takes_a_long_text(tmp_path: Path) -> None:
    with running("summarise", tmp_path) as client:
        text = "The sea is wide and the wind is strong. Ships sail where they must. " * 100
        result = client.post("/", content=text).json()
        assert result["pieces"] == 2
        assert result["summary"]
        assert client.post("/", content=" ").status_code == 400


def test_hono_answers_and_streams(tmp_path: Path) -> None:
    with running("hono", tmp_path) as client:
        listed = client.get("/models").json()
        assert listed
        assert {*listed} <= Catalog.load().cards.keys()
        assert client.get("/ask", params={"q": "Hello"}).json()["tokens"] > 0
        assert client.get("/stream", params={"q": "Hello"}).text.endswith("data: [DONE]\n\n")
        assert client.get("/ask").json()["error"].startswith("5006: ")
