"""Recordings: what was recorded comes back the same, in the same pieces, without weights; a miss says what is near."""

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from runtime.artifacts import ArtifactStore
from runtime.pool import Pool
from tests.worker.asking import GREEDY, MODEL, answer, stream
from worker import AI, AiError
from worker.errors import BadRecording
from worker.recording import Recorder, Replayer

pytestmark = pytest.mark.weights

CALL: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Weather?"}],
    "tools": [{"name": "weather", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}],
    "tool_choice": "required",
}
JSON: dict[str, Any] = {
    "prompt": "Give me JSON with name and age.",
    "response_format": {"type": "json_object"},
    "temperature": 0,
}
LOGPROBS = {"logprobs": True, "top_logprobs": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


def replaying(folder: Path, tmp_path: Path) -> AI:
    """A binding without any weights."""
    return AI(pool=Pool(ArtifactStore(tmp_path / "empty")), interposers=[Replayer(folder)])


@pytest.mark.parametrize("inputs", [GREEDY, CALL, JSON])
async def test_a_recorded_answer_comes_back_whole_and_streamed(
    folder: Path, tmp_path: Path, inputs: dict[str, Any]
) -> None:
    async with aclosing(AI(interposers=[Recorder(folder)])) as ai:
        frames = [frame async for frame in await stream(ai, inputs)]
        usage = json.loads(frames[-2][6:])["usage"]
    async with aclosing(replaying(folder, tmp_path)) as ai:
        assert [frame async for frame in await stream(ai, inputs)] == frames
        whole = await ai.run(MODEL, {**inputs, "stop": None})
        assert isinstance(whole, dict)
        assert whole["usage"] == usage
        said = (await ai.generate(MODEL, inputs)).served_by
        assert said is not None
        assert said.stand_in


async def test_log_probabilities_are_recorded_too(folder: Path, tmp_path: Path) -> None:
    async with aclosing(AI(interposers=[Recorder(folder)])) as ai:
        told = [event async for event in await ai.generate(MODEL, GREEDY, None, LOGPROBS)]
    async with aclosing(replaying(folder, tmp_path)) as ai:
        assert [event async for event in await ai.generate(MODEL, GREEDY, None, LOGPROBS)] == told


@pytest.mark.parametrize(("inputs", "code"), [({"prompt": ""}, 5006), ({**JSON, "max_tokens": 2}, 5024)])
async def test_errors_are_recorded_too(folder: Path, tmp_path: Path, inputs: dict[str, Any], code: int) -> None:
    async with aclosing(AI(interposers=[Recorder(folder)])) as ai:
        with pytest.raises(AiError) as original:
            await ai.run(MODEL, inputs)
    async with aclosing(replaying(folder, tmp_path)) as ai:
        with pytest.raises(AiError) as replayed:
            await ai.run(MODEL, inputs)
    assert original.value.code == replayed.value.code == code
    assert original.value.description == replayed.value.description


async def test_a_recording_is_a_readable_file_that_names_its_model(folder: Path) -> None:
    async with aclosing(AI(interposers=[Recorder(folder)])) as ai:
        result = await answer(ai, GREEDY)
    (path,) = folder.iterdir()
    assert path.name.startswith("starling-lm-7b-beta-")
    written = json.loads(path.read_text(encoding="utf-8"))
    assert (written["model"], written["inputs"]) == (MODEL, GREEDY)
    assert "".join(event.get("text", "") for event in written["reply"]["events"]) == result["response"]


async def test_an_answer_that_was_left_is_not_recorded(folder: Path) -> None:
    async with aclosing(AI(interposers=[Recorder(folder)])) as ai:
        async with await stream(ai, GREEDY) as answering:
            await anext(answering)
        assert list(folder.iterdir()) == []


async def test_a_miss_shows_the_nearest_recording(folder: Path, tmp_path: Path) -> None:
    async with aclosing(AI(interposers=[Recorder(folder)])) as ai:
        await answer(ai, GREEDY)
        await answer(ai, {"prompt": "Something else", "max_tokens": 1})
    async with aclosing(replaying(folder, tmp_path)) as ai:
        with pytest.raises(AiError) as caught:
            await ai.run(MODEL, {**GREEDY, "max_tokens": 9})
    assert (caught.value.code, caught.value.status) == (5911, 404)
    assert "differs at /inputs/max_tokens: 9 is asked, 8 recorded" in caught.value.description


async def test_without_recordings_a_miss_says_so(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    async with aclosing(replaying(folder, tmp_path)) as ai:
        with pytest.raises(AiError, match="there is none at all"):
            await ai.run(MODEL, GREEDY)


def test_what_is_no_recording_is_refused_at_once(folder: Path) -> None:
    with pytest.raises(BadRecording, match="no folder of recordings"):
        Replayer(folder)
    folder.mkdir()
    (folder / "x.json").write_text('{"model": "m"}')
    with pytest.raises(BadRecording, match=r"x\.json is no recording"):
        Replayer(folder)
