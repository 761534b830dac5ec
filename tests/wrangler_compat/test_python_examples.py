"""The Python projects under examples/ do what their READMEs say, unchanged, under ``roost dev``."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.wrangler_compat.test_examples import EXAMPLES, it_chats
from tests.wrangler_compat.test_python_dev import roost_dev
from worker.bindings.vectorize_file import VectorIndexFile
from wrangler_compat.more_bindings import VECTORIZE

pytestmark = pytest.mark.weights


@contextmanager
def running(name: str, folder: Path) -> Iterator[httpx.Client]:
    for each in (name, "chat"):
        shutil.copytree(
            EXAMPLES / each,
            folder / each,
            ignore=shutil.ignore_patterns("node_modules", ".wrangler"),
            dirs_exist_ok=True,
        )
    with roost_dev(folder / name) as (_, client):
        yield client


def test_the_python_chat_has_the_page_and_streams(tmp_path: Path) -> None:
    with running("python-chat", tmp_path) as client:
        it_chats(client)


def test_fastapi_answers_and_keeps(tmp_path: Path) -> None:
    with running("fastapi", tmp_path) as client:
        first, again = (client.get("/ask", params={"q": "Hello"}).json() for _ in range(2))
        assert (first["kept"], again["kept"], again["answer"]) == (False, True, first["answer"])
        assert client.get("/ask").status_code == 422


def test_rag_answers_from_the_nearest_notes(tmp_path: Path) -> None:
    state = tmp_path / "rag" / ".wrangler" / "state" / "roost" / VECTORIZE
    VectorIndexFile(state, "notes").create(768, "cosine")
    notes = (
        "The office cat is called Miso.",
        "Invoices are paid on the first Monday of the month.",
        "The printer on the second floor needs magenta ink.",
        "Our database server was moved to Frankfurt.",
    )
    with running("rag", tmp_path) as client:
        for number, note in enumerate(notes, 1):
            kept = client.post("/notes", content=note)
            assert (kept.status_code, kept.json()) == (201, {"id": number}), kept.text
        told = client.get("/ask", params={"q": "What is the name of the cat?"}).json()
        assert (told["notes"][0], len(told["notes"])) == (notes[0], 3)
        assert told["answer"]
        told = client.get("/ask", params={"q": "When do we pay bills?"}).json()
        assert told["notes"][0] == notes[1]
        assert client.get("/ask").status_code == 404
