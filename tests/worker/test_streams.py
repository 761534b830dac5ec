"""The frames of a stream: made by one function, read back by another, and honest about how they ended."""

import ast
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import worker.streams
from catalog import UnknownModel
from runtime.config import Usage
from runtime.errors import EngineFailed
from runtime.tasks.text_generation import Event, Finished, TextDelta
from worker.errors import CODES, AiError
from worker.streams import parse_frames, sse_frame, sse_frames

ROOT = Path(worker.streams.__file__).parents[1]
END = Finished(None, Usage(7, 3))
AWKWARD = [
    "\n",
    "\r\n",
    "a\n\ndata: b",
    "\u2028\u2029",
    "\0",
    "é😀",
    '"\\',
    "data: [DONE]",
    "[DONE]",
    "\x85\x0b\x0c\x1c",
]


async def stream(events: Iterable[Event], fault: Exception | None = None) -> AsyncIterator[Event]:
    for event in events:
        yield event
    if fault:
        raise fault


async def frames_of(events: Iterable[Event], fault: Exception | None = None) -> list[bytes]:
    return [frame async for frame in sse_frames(stream(events, fault))]


async def lines_of(frames: Iterable[bytes]) -> AsyncIterator[str]:
    for line in b"".join(frames).decode().split("\n"):
        yield line


async def events_of(frames: Iterable[bytes]) -> list[Event]:
    return [event async for event in parse_frames(lines_of(frames))]


def texts() -> st.SearchStrategy[list[str]]:
    return st.lists(st.text(min_size=1) | st.sampled_from(AWKWARD), max_size=5)


async def test_a_stream_is_a_frame_per_text_then_the_usage_then_done() -> None:
    assert await frames_of([TextDelta("Hel"), TextDelta("lo"), END]) == [
        b'data: {"response":"Hel"}\n\n',
        b'data: {"response":"lo"}\n\n',
        b'data: {"response":"","usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n',
        b"data: [DONE]\n\n",
    ]


@settings(deadline=None)
@given(texts())
@example(AWKWARD)
async def test_a_frame_is_one_line_of_data_and_an_empty_line(pieces: list[str]) -> None:
    for frame in await frames_of([*map(TextDelta, pieces), END]):
        assert frame.startswith(b"data: ")
        assert frame.endswith(b"\n\n")
        assert frame.count(b"\n") == 2
        assert b"\r" not in frame


@settings(deadline=None)
@given(texts())
@example(AWKWARD)
async def test_parsing_inverts_framing(pieces: list[str]) -> None:
    sent: list[Event] = [*map(TextDelta, pieces), END]
    assert await events_of(await frames_of(sent)) == sent


@pytest.mark.parametrize("fault", [EngineFailed("the model failed"), UnknownModel("m"), ZeroDivisionError("by zero")])
async def test_a_fault_in_mid_stream_is_an_errors_frame_and_no_done(fault: Exception) -> None:
    *whole, last = await frames_of([TextDelta("Hel")], fault)
    assert whole == [b'data: {"response":"Hel"}\n\n']
    (error,) = json.loads(last.removeprefix(b"data: "))["errors"]
    assert error["code"] == AiError.of(fault).code
    assert AiError.of(fault).description in error["message"]


async def test_an_errors_frame_is_raised_where_it_is_read() -> None:
    frames = await frames_of([TextDelta("Hel")], EngineFailed("the model failed"))
    with pytest.raises(AiError) as caught:
        await events_of(frames)
    row = CODES[EngineFailed]
    assert (caught.value.code, caught.value.status) == (row.internal, row.status)
    assert caught.value.description == "the model failed"


@pytest.mark.parametrize("kept", [0, 1, 2])
async def test_a_stream_without_its_end_is_an_error(kept: int) -> None:
    frames = (await frames_of([TextDelta("Hel"), END]))[:kept]
    with pytest.raises((AiError, ConnectionError), match="broke off") as caught:
        await events_of(frames)
    assert isinstance(caught.value, Exception)
    assert AiError.of(caught.value).foreseen


async def test_what_is_no_data_line_is_passed_over() -> None:
    frames = [b": a comment\n\n", b"event: x\n", b"id: 1\n", *await frames_of([TextDelta("a"), END])]
    assert await events_of(frames) == [TextDelta("a"), END]


async def test_a_frames_padding_is_passed_over() -> None:
    padded = sse_frame({"response": "a", "p": "abcdefgh"})
    assert await events_of([padded, *await frames_of([END])]) == [TextDelta("a"), END]


def test_frames_are_made_in_one_function() -> None:
    makers = [
        path.relative_to(ROOT).as_posix()
        for folder in ("catalog", "runtime", "worker", "wrangler_compat")
        for path in sorted(ROOT.glob(f"{folder}/**/*.py"))
        if any(writes_a_frame(node) for node in ast.walk(ast.parse(path.read_text())))
    ]
    assert makers == ["worker/streams.py"]


def writes_a_frame(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) and ast.unparse(node).lstrip("f'\"").startswith("data: ")
