"""Whoever leaves takes the computation along: a stream that is left, or a call that is cancelled, frees its row."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.worker.asking import ENDLESS, FAR_BELOW, GREEDY, answer, computing, idle, stats, stream
from worker import AI

pytestmark = pytest.mark.weights


async def leave_by_break(ai: AI) -> None:
    async for _ in await stream(ai, ENDLESS):
        break


async def leave_by_aclose(ai: AI) -> None:
    answering = await stream(ai, ENDLESS)
    await anext(answering)
    await answering.aclose()
    await answering.aclose()


async def leave_by_context(ai: AI) -> None:
    async with await stream(ai, ENDLESS) as answering:
        await anext(answering)


async def leave_by_dropping_it_unread(ai: AI) -> None:
    await stream(ai, ENDLESS)


async def leave_typed_events(ai: AI) -> None:
    async for _ in (await stream(ai, ENDLESS)).events():
        break


async def leave_by_a_fault_in_the_loop(ai: AI) -> None:
    async def read() -> None:
        async for _ in await stream(ai, ENDLESS):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await read()


async def leave_by_cancelling_the_reader(ai: AI) -> None:
    async def read() -> None:
        async for _ in await stream(ai, ENDLESS):
            pass

    await cancelled(ai, read())


async def leave_by_cancelling_a_whole_answer(ai: AI) -> None:
    await cancelled(ai, answer(ai, ENDLESS))


async def leave_by_cancelling_it_half_way(ai: AI) -> None:
    await cancelled(ai, answer(ai, ENDLESS), stats(ai).generated_tokens + 5)


async def leave_by_timeout(ai: AI) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(answer(ai, ENDLESS), 0.05)


async def cancelled(ai: AI, work: Awaitable[object], tokens: int = 0) -> None:
    task = asyncio.ensure_future(work)
    await computing(ai, tokens)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_break,
        leave_by_aclose,
        leave_by_context,
        leave_by_dropping_it_unread,
        leave_typed_events,
        leave_by_a_fault_in_the_loop,
        leave_by_cancelling_the_reader,
        leave_by_cancelling_a_whole_answer,
        leave_by_cancelling_it_half_way,
        leave_by_timeout,
    ],
)
async def test_leaving_stops_the_computation(ai: AI, leave: Callable[[AI], Awaitable[None]]) -> None:
    await answer(ai, GREEDY)  # loaded
    before = stats(ai).generated_tokens
    await leave(ai)
    after = await idle(ai)
    assert after.cached_tokens == 0
    assert after.generated_tokens - before < FAR_BELOW


async def test_one_who_leaves_disturbs_nobody(ai: AI) -> None:
    alone = await answer(ai, GREEDY)
    staying = asyncio.create_task(answer(ai, GREEDY))
    await asyncio.gather(*(leave_by_aclose(ai) for _ in range(5)))
    assert await staying == alone
    await idle(ai)


async def test_more_leave_than_there_are_rows_and_all_rows_come_back(ai: AI) -> None:
    alone = await answer(ai, GREEDY)
    await asyncio.gather(*(leave_by_cancelling_the_reader(ai) for _ in range(40)))
    assert (await idle(ai)).cached_tokens == 0
    assert await answer(ai, GREEDY) == alone
