"""Faults on purpose: the platform's errors, delays and cuts, the same ones for the same seed."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from runtime.errors import Refused
from tests.worker.asking import ENDLESS, GREEDY, MODEL, answer, idle, stream
from worker import AI, AiError
from worker.faults import Fault, Faults, parse_fault

pytestmark = pytest.mark.weights


@asynccontextmanager
async def failing(*faults: str, seed: int = 0) -> AsyncIterator[AI]:
    async with aclosing(AI(interposers=[Faults([parse_fault(fault) for fault in faults], seed)])) as ai:
        yield ai


async def met(ai: AI, times: int = 12) -> list[int | None]:
    """The code of each error, or ``None`` for an answer."""
    codes: list[int | None] = []
    for _ in range(times):
        try:
            await ai.run(MODEL, {**GREEDY, "max_tokens": 1})
            codes.append(None)
        except AiError as error:
            codes.append(error.code)
    return codes


@pytest.mark.parametrize(("code", "status"), [(3040, 429), (3036, 429), (3007, 408), (5021, 413), (5006, 400)])
async def test_an_error_is_the_platform_s(code: int, status: int) -> None:
    async with failing(f"{code}:1") as ai:
        with pytest.raises(AiError) as caught:
            await ai.run(MODEL, GREEDY)
    assert (caught.value.code, caught.value.status) == (code, status)


async def test_the_same_seed_makes_the_same_faults() -> None:
    runs = []
    for seed in (1, 1, 2):
        async with failing("3040:0.3", "5021:0.2", seed=seed) as ai:
            runs.append(await met(ai))
    assert runs[0] == runs[1] != runs[2]
    assert {None, 3040} <= set(runs[0] + runs[2])


async def test_a_cut_stream_has_no_end_and_stops_computing() -> None:
    async with failing("cut:1") as ai:
        frames = [frame async for frame in await stream(ai, ENDLESS)]
        assert b"5907" in frames[-1]
        assert len(frames) == 4
        assert (await idle(ai)).generated_tokens < 1000
        with pytest.raises(AiError, match="cut on purpose"):
            await ai.run(MODEL, GREEDY)


async def test_a_slow_answer_is_the_same_answer(ai: AI) -> None:
    async with failing("slow:1ms") as slow:
        assert await answer(slow, GREEDY) == await answer(ai, GREEDY)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("3040:0.1", Fault(0.1, code=3040)),
        ("slow:2s", Fault(1.0, seconds=2.0)),
        ("slow:250ms:0.5", Fault(0.5, seconds=0.25)),
        ("cut:0.05", Fault(0.05, cut=True)),
    ],
)
def test_a_fault_is_read(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize("text", ["", "3040", "3040:2", "3040:x", "1234:0.1", "slow", "slow:2h", "slow:2s:9", "cut:-1"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="--fault"):
        parse_fault(text)
