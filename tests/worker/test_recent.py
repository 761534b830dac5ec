"""How the last requests ended: every way in which one can."""

import asyncio

import pytest

from tests.worker.asking import ENDLESS, GREEDY, MODEL, computing, idle, stream
from worker import AI, AiError

pytestmark = pytest.mark.weights


def last(ai: AI) -> dict[str, object]:
    row: dict[str, object] = ai.recent.as_rows()[0]
    return row


async def test_a_request_runs_until_its_end(ai: AI) -> None:
    asked = await stream(ai, GREEDY)
    assert (last(ai)["outcome"], last(ai)["took"]) == ("running", None)
    async for _ in asked:
        pass
    assert (last(ai)["outcome"], last(ai)["completion_tokens"]) == ("done", 8)
    assert last(ai)["request_id"] == asked.request_id


async def test_a_refusal_has_its_code(ai: AI) -> None:
    with pytest.raises(AiError):
        await ai.run(MODEL, {"prompt": ""})
    assert (last(ai)["outcome"], last(ai)["code"], last(ai)["first"]) == ("failed", 5006, None)


@pytest.mark.parametrize("read", [0, 3])
async def test_a_stream_that_is_left_was_left(ai: AI, read: int) -> None:
    asked = await stream(ai, ENDLESS)
    for _ in range(read):
        await anext(asked)
    await asked.aclose()
    assert last(ai)["outcome"] == "left"
    await idle(ai)


async def test_a_call_that_is_cancelled_was_left(ai: AI) -> None:
    await ai.run(MODEL, GREEDY)
    call = asyncio.create_task(ai.run(MODEL, ENDLESS))
    await computing(ai)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert last(ai)["outcome"] == "left"
    await idle(ai)


async def test_a_name_from_outside_is_kept_short(ai: AI) -> None:
    with pytest.raises(AiError):
        await ai.run("@cf/a/" + "b" * 100_000, {})
    assert len(str(last(ai)["model"])) == 100
