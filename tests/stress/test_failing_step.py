"""What ONNX Runtime raises in one step ends the requests of that step with a code; the engine serves on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import httpx
import pytest

from tests.stress.arithmetic_model import FAILS, STARVES, write_arithmetic_artifact
from tests.stress.asking import DOORS, REST, Heard, a_prompt, ask, greedy, right
from tests.stress.conftest import Figures
from tests.stress.serving import Roost, serving

pytestmark = pytest.mark.stress

COUNT = 30


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roost]:
    """A roost whose model fails at two of its tokens."""
    cache = tmp_path_factory.mktemp("trapped")
    write_arithmetic_artifact(cache, traps=True)
    with serving(cache, "--context", "512", "--no-deterministic") as roost:
        yield roost


def harmless(chance: random.Random) -> str:
    """A prompt that has no trap in it, nor in its answer."""
    while True:
        prompt = a_prompt(chance)
        if not {FAILS, STARVES} & set(prompt + right(prompt, COUNT)):
            return prompt


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("trap", "words"), [(FAILS, "out of data bounds"), (STARVES, "Failed to allocate memory")])
def test_an_error_of_onnx_runtime_is_a_code_and_the_engine_serves_on(
    trapped: Roost, figures: Figures, door: str, trap: str, words: str
) -> None:
    chance = random.Random(3)
    prompt = harmless(chance)

    async def both() -> tuple[Heard, Heard]:
        async with httpx.AsyncClient(base_url=trapped.url, timeout=60) as client:
            return await ask(client, door, greedy(f"a{trap}b", 4)), await ask(client, door, greedy(prompt, COUNT))

    failed, served = asyncio.run(both())
    assert (failed.status, failed.code, failed.text) == (500, 5905, None)
    assert served.text == right(prompt, COUNT)
    assert words in trapped.log.read_text()
    figures["steps that raised in ONNX Runtime, of them out of memory"] = "6 and those of 40 requests, half"


def test_of_many_that_share_an_engine_only_those_of_failing_steps_fail(trapped: Roost) -> None:
    """Whoever isn't in a failing step gets the right answer; whoever is hears 5905, and nobody a wrong word."""
    chance = random.Random(4)
    prompts = [harmless(chance) if n % 4 else f"{a_prompt(chance)}{chance.choice([FAILS, STARVES])}" for n in range(40)]

    async def all_of_them() -> list[Heard]:
        async with httpx.AsyncClient(base_url=trapped.url, timeout=60) as client:
            return list(await asyncio.gather(*(ask(client, REST, greedy(prompt, COUNT)) for prompt in prompts)))

    heard = asyncio.run(all_of_them())
    for prompt, one in zip(prompts, heard, strict=True):
        assert (one.status, one.code) == (500, 5905) or one.text == right(prompt, COUNT)
    assert all(one.code == 5905 for prompt, one in zip(prompts, heard, strict=True) if {FAILS, STARVES} & set(prompt))
    assert trapped.idle()["running"] == 0
