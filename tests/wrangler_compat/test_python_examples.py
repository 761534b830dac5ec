"""The Python projects under examples/ do what their READMEs say, unchanged, under ``roost dev``."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.wrangler_compat.test_examples import EXAMPLES, it_chats
from tests.wrangler_compat.test_python_dev import roost_dev

pytestmark = pytest.mark.weights


@contextmanager
def running(name: str, folder: Path) -> Iterator[httpx.Client]:
    for each in (name, "chat"):
        shutil.copytree(EXAMPLES / each, folder / each, ignore=shutil.ignore_patterns("node_modules", ".wrangler"))
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
