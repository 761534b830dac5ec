"""``AI(url=…)`` is the binding in process, computed elsewhere: same answers, same frames, same errors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from tests.worker.asking import ENDLESS, FAR_BELOW, GREEDY, MODEL, SAMPLED, answer, stream
from tests.worker.live import computing_at, idle_at, ps
from worker import AI, AiError, Finished, TextDelta
from worker.server import bind, url_of

pytestmark = pytest.mark.weights

REFUSED: list[tuple[str, Any]] = [
    ("nope", {"prompt": "a"}),
    ("", {"prompt": "a"}),
    ("@cf/é/ü", {"prompt": "a"}),
    ("@cf/a/b\r\nx-injected: 1", {"prompt": "a"}),
    (MODEL, {}),
    (MODEL, {"prompt": "a", "temperature": 9}),
    (MODEL, {"prompt": "a", "max_tokens": -1}),
    (MODEL, {"prompt": "a", "temperature": float("nan")}),
    (MODEL, {"prompt": "a", "lora": "mine"}),
    (MODEL, {"prompt": "a " * 3070}),
    (MODEL, {"prompt": "a", "max_tokens": 5000, "stream": True}),
]


@pytest.fixture
async def remote(url: str) -> AsyncIterator[AI]:
    async with aclosing(AI(url=url)) as binding:
        yield binding


@pytest.fixture
def nowhere() -> str:
    """An address that nobody listens at."""
    taken = bind("127.0.0.1", 0)
    address = url_of(taken)
    taken.close()
    return address


@pytest.mark.parametrize("inputs", [GREEDY, SAMPLED, {**GREEDY, "messages": [{"role": "user", "content": "😀\n"}]}])
async def test_the_same_text_comes_from_afar(ai: AI, remote: AI, inputs: dict[str, Any]) -> None:
    asked = {name: value for name, value in inputs.items() if name != "prompt" or "messages" not in inputs}
    assert await answer(remote, asked) == await answer(ai, asked)


async def test_the_same_frames_come_from_afar(ai: AI, remote: AI) -> None:
    await asyncio.gather(answer(ai, GREEDY), answer(remote, GREEDY))  # from now on both keep the prompt
    here = [frame async for frame in await stream(ai, GREEDY)]
    assert [frame async for frame in await stream(remote, GREEDY)] == here


async def test_the_same_events_come_from_afar_but_for_the_reason(ai: AI, remote: AI) -> None:
    await asyncio.gather(answer(ai, GREEDY), answer(remote, GREEDY))  # from now on both keep the prompt
    *texts, end = [event async for event in (await stream(ai, GREEDY)).events()]
    *far_texts, far_end = [event async for event in (await stream(remote, GREEDY)).events()]
    assert far_texts == texts
    assert all(isinstance(event, TextDelta) for event in texts)
    assert isinstance(end, Finished)
    assert far_end == Finished(None, end.usage)


@pytest.mark.parametrize(("model", "inputs"), REFUSED)
async def test_the_same_error_comes_from_afar(ai: AI, remote: AI, model: str, inputs: Any) -> None:
    assert await refusal(remote, model, inputs) == await refusal(ai, model, inputs)


async def refusal(binding: AI, model: str, inputs: Any) -> tuple[int, int, str, str]:
    with pytest.raises(AiError) as caught:
        await binding.run(model, inputs)
    error = caught.value
    return error.code, error.status, error.description, error.message.replace(error.request_id, "ID")


@pytest.mark.parametrize("inputs", [{"prompt": b"bytes"}, {"prompt": {1, 2}}, "hello", None, [1]])
async def test_what_cannot_be_sent_is_refused_as_it_is_here(ai: AI, remote: AI, inputs: Any) -> None:
    assert (await refusal(remote, MODEL, inputs))[:2] == (await refusal(ai, MODEL, inputs))[:2] == (5006, 400)


async def test_an_errors_request_id_is_the_bindings_last(remote: AI) -> None:
    with pytest.raises(AiError) as caught:
        await remote.run("nope", {"prompt": "a"})
    assert remote.last_request_id == caught.value.request_id


async def test_who_answers_is_told_from_afar(ai: AI, remote: AI) -> None:
    async with await stream(remote, GREEDY) as far, await stream(ai, GREEDY) as near:
        assert far.served_by == near.served_by
        assert far.request_id == remote.last_request_id


async def test_models_are_the_same_from_afar(ai: AI, remote: AI) -> None:
    assert await remote.models() == await ai.models()
    assert await remote.models({"search": "no such words"}) == []


async def test_models_with_a_bad_filter_are_the_same_error_from_afar(ai: AI, remote: AI) -> None:
    errors = []
    for binding in (ai, remote):
        with pytest.raises(AiError) as caught:
            await binding.models({"page": 0})
        errors.append((caught.value.code, caught.value.description))
    assert errors[0] == errors[1]


async def test_leaving_a_stream_stops_the_computation_afar(remote: AI, url: str) -> None:
    await answer(remote, GREEDY)
    before = ps(url)["generated_tokens"]
    async with await stream(remote, ENDLESS) as answering:
        await anext(answering)
    after = await asyncio.to_thread(idle_at, url)
    assert after["generated_tokens"] - before < FAR_BELOW


async def test_cancelling_a_whole_answer_stops_the_computation_afar(remote: AI, url: str) -> None:
    await answer(remote, GREEDY)
    before = ps(url)["generated_tokens"]
    asking = asyncio.create_task(answer(remote, ENDLESS))
    await asyncio.to_thread(computing_at, url, before + 5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    after = await asyncio.to_thread(idle_at, url)
    assert after["generated_tokens"] - before < FAR_BELOW


@pytest.mark.parametrize("address", ["{nowhere}", "localhost:8790", "http://no-such-host.invalid", "http://[bad"])
async def test_a_roost_that_is_not_there_is_one_sentence(nowhere: str, address: str) -> None:
    async with aclosing(AI(url=address.format(nowhere=nowhere))) as missing:
        with pytest.raises(AiError) as caught:
            await missing.run(MODEL, GREEDY)
    assert caught.value.status == 503
    assert caught.value.description.startswith("no roost answers at ")
    assert "\n" not in caught.value.description


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<ok>",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nno\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: {"response":"Hel"}\n\n',
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 8\r\n\r\ndata: {\n",
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
    ids=["html", "other JSON", "502", "cut JSON", "cut stream", "no frames", "nothing", "no HTTP"],
)
async def test_whatever_answers_instead_of_a_roost_is_an_error_that_blames_nobody_here(reply: bytes) -> None:
    server = await asyncio.start_server(replying(reply), "127.0.0.1", 0)
    address = "http://{}:{}".format(*server.sockets[0].getsockname())
    async with server, aclosing(AI(url=address)) as stranger:
        with pytest.raises(AiError) as caught:
            await all_of(stranger)
    assert caught.value.foreseen, caught.value


def replying(reply: bytes) -> Any:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    return handle


async def all_of(binding: AI) -> None:
    result = await binding.run(MODEL, GREEDY)
    if not isinstance(result, dict):
        async for _ in result.events():
            pass
