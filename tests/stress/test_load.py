"""More clients than rows and queue can take: whole, right answers, or a refusal that says when to come back."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from pathlib import Path

import httpx
import pytest

from runtime.artifacts import ArtifactStore
from tests.stress.asking import DOORS, REST, Heard, a_prompt, ask, at, greedy, right
from tests.stress.conftest import Figures
from tests.stress.serving import Roost, serving
from tests.worker.asking import ENDLESS

pytestmark = pytest.mark.stress

CLIENTS = 200
_PATIENT = httpx.Timeout(100)
_ALL = httpx.Limits(max_connections=None)


async def all_at_once(url: str, wanted: list[tuple[str, dict[str, object]]]) -> list[Heard]:
    """What each hears that asks a door; each has a connection of its own."""
    async with httpx.AsyncClient(base_url=url, timeout=_PATIENT, limits=_ALL) as client:
        return list(await asyncio.gather(*(ask(client, door, inputs) for door, inputs in wanted)))


def test_200_clients_at_once_on_16_rows_all_get_the_right_answer(arithmetic: Roost, figures: Figures) -> None:
    chance = random.Random(1)
    asked = [(DOORS[n % 3], a_prompt(chance), chance.randint(1, 60), n % 2 == 0) for n in range(CLIENTS)]
    wanted = [(door, greedy(prompt, count, stream=stream)) for door, prompt, count, stream in asked]
    heard = asyncio.run(all_at_once(arithmetic.url, wanted))
    assert [one.text for one in heard] == [right(prompt, count) for _, prompt, count, _ in asked]
    arithmetic.idle()
    figures["clients at once, all answered"] = len(heard)


@pytest.fixture
def stand_in_cache(tmp_path: Path) -> Path:
    (tmp_path / "artifacts").symlink_to(ArtifactStore().root / "artifacts")
    return tmp_path


@pytest.mark.weights
def test_200_clients_at_once_with_real_weights_get_the_lone_answer_or_3040(
    stand_in_cache: Path, figures: Figures
) -> None:
    prompts = ["Count to five.", "Name a colour.", "Say hello.", "What is rain?"]
    wanted = [(DOORS[n % 3], greedy(prompts[n % 4], 4, stream=n % 8 < 4)) for n in range(CLIENTS)]
    with serving(stand_in_cache, "--queue", "24") as roost:
        lone = [asyncio.run(all_at_once(roost.url, [(REST, greedy(prompt, 4))]))[0].text for prompt in prompts]
        heard = asyncio.run(all_at_once(roost.url, wanted))
        roost.idle()
    answered = [one for one in heard if not one.refused_for_now]
    assert [one.text for one in answered] == [lone[n % 4] for n, one in enumerate(heard) if not one.refused_for_now]
    assert 16 + 24 <= len(answered) < CLIENTS
    figures["of 200 at once on 16 rows with --queue 24: right answers, and refusals with retry-after"] = (
        f"{len(answered)}, {CLIENTS - len(answered)}"
    )


@pytest.mark.weights
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("door", DOORS)
def test_every_door_says_when_to_come_back(full: str, door: str, stream: bool) -> None:
    (heard,) = asyncio.run(all_at_once(full, [(door, greedy("hello", 4, stream=stream))]))
    assert heard.refused_for_now, heard
    path, headers, body = at(door, greedy("hello", 4))
    assert httpx.post(full + path, headers=headers, json=body).headers["cf-ai-req-id"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The address of a roost whose only row is taken and whose queue is of length 0."""
    cache = tmp_path_factory.mktemp("full")
    os.symlink(ArtifactStore().root / "artifacts", cache / "artifacts")
    with serving(cache, "--rows", "1", "--queue", "0") as roost, endless(roost.url):
        yield roost.url


def endless(url: str) -> socket.socket:
    """A client with a row: its first token has come."""
    address = httpx.URL(url)
    path, _, _ = at(REST, {})
    content = httpx.Request("POST", url + path, json={**ENDLESS, "stream": True})
    connection = socket.create_connection((address.host, address.port or 80), timeout=60)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content.content)}\r\n\r\n"
    connection.sendall(head.encode() + content.content)
    read = b""
    while b"data: " not in read:
        read += connection.recv(4096)
    return connection
