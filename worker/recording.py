"""Requests and their replies as files: written by one class, answered from by another, without any weights.

A file holds one request, without what says how it was to be sent, and the events of its reply in their order, so that a
stream comes back in the same pieces. Requests are told apart by model and inputs: nulls and ``stream`` don't count.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from runtime.answer_text import TokenLogprob
from runtime.config import Usage
from runtime.pool import ServedBy
from runtime.tasks.text_generation import Event, Finished, Result, TextDelta
from runtime.tool_calls import ToolCall
from worker.answer import Answer
from worker.call import Ask, Call
from worker.errors import AiError, BadRecording, NoRecording

Json: TypeAlias = dict[str, Any]
_NAME_LENGTH = 40


class Recorder:
    """Writes every call that came to its end, or to an error, to ``folder``. A later reply replaces an earlier one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    async def __call__(self, call: Call, ask: Ask) -> Answer:
        """The answer, which is written once it has ended."""
        try:
            answer = await ask(call)
        except Exception as fault:
            self._write(call, {"error": AiError.of(fault, call.request_id).to_dict()})
            raise
        return answer.with_events(self._recorded(call, answer))

    async def _recorded(self, call: Call, answer: Answer) -> AsyncGenerator[Event]:
        events: list[Json] = []
        reply: Json = {"served_by": asdict(answer.served_by) if answer.served_by else None, "events": events}
        try:
            async for event in answer:
                events.append(_written(event))
                yield event
        except Exception as fault:
            self._write(call, {**reply, "error": AiError.of(fault, call.request_id).to_dict()})
            raise
        finally:
            await answer.aclose()
        self._write(call, reply)

    def _write(self, call: Call, reply: Json) -> None:
        asked, today = _asked(call), datetime.datetime.now(datetime.UTC)
        text = json.dumps({**asked, "recorded": f"{today:%Y-%m-%d}", "reply": reply}, ensure_ascii=False, indent=2)
        path = self._folder / _file_name(asked)
        half = path.with_suffix(f".{call.request_id}.partial")
        half.write_text(text + "\n", encoding="utf-8")
        half.replace(path)


class Replayer:
    """Answers from the files in ``folder`` alone, which are read at once. Raises :class:`NoRecording` for a miss."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BadRecording(f"no folder of recordings at {folder}")
        self._folder = folder
        self._recordings = {_key(recording): (name, recording) for name, recording in _read(folder)}

    async def __call__(self, call: Call, ask: Ask) -> Answer:  # noqa: ARG002  (nobody is asked)
        """The recorded answer."""
        asked = _asked(call)
        if (found := self._recordings.get(_key(asked))) is None:
            raise NoRecording(self._miss(asked))
        reply = found[1]["reply"]
        if not reply.get("events") and "error" in reply:
            raise AiError.from_dict({**reply["error"], "requestId": call.request_id})
        served_by = ServedBy(**reply["served_by"]) if reply["served_by"] else None
        return Answer(
            _replayed(reply, call.request_id),
            streaming=call.streaming and not any("result" in event for event in reply["events"]),
            request_id=call.request_id,
            served_by=served_by,
        )

    def _miss(self, asked: Json) -> str:
        """What was asked for, and how the recording nearest to it differs."""
        said = f"no recording in {self._folder} of this request to {asked['model']}"
        theirs = [(_differences(asked, recording), name) for name, recording in self._recordings.values()]
        if not theirs:
            return f"{said}: there is none at all"
        differences, name = min(theirs, key=lambda pair: len(pair[0]))
        return f"{said}; the nearest, {name}, differs at {'; '.join(differences[:3])}"


def _read(folder: Path) -> Iterator[tuple[str, Json]]:
    for path in sorted(folder.glob("*.json")):
        try:
            recording = json.loads(path.read_text(encoding="utf-8"))
            _key(recording)
            recording["reply"].keys()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadRecording(f"{path} is no recording: {error}") from error
        yield path.name, recording


def _asked(call: Call) -> Json:
    inputs = call.inputs
    if isinstance(inputs, Mapping):
        inputs = {name: value for name, value in inputs.items() if name not in ("stream", "stream_options")}
    return {"model": call.model, "inputs": _normal(inputs), "extras": _normal(call.extras)}


def _normal(value: Any) -> Any:
    """Without nulls; what isn't JSON as its text, for it will be refused."""
    if isinstance(value, Mapping):
        return {
            str(name): _normal(entry)
            for name, entry in sorted(value.items(), key=lambda pair: str(pair[0]))
            if entry is not None
        }
    if isinstance(value, list | tuple):
        return [_normal(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool) else repr(value)


def _key(asked: Json) -> str:
    text = json.dumps([asked["model"], asked["inputs"], asked["extras"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_name(asked: Json) -> str:
    last = re.sub(r"[^a-z0-9.-]+", "-", asked["model"].rpartition("/")[2].lower())[:_NAME_LENGTH]
    return f"{last.strip('-') or 'model'}-{_key(asked)[:12]}.json"


def _differences(asked: Json, recording: Json) -> list[str]:
    ours, theirs = dict(_leaves(asked)), dict(_leaves({name: recording[name] for name in asked}))
    names = sorted({*ours, *theirs}, key=lambda name: (name != "/model", name))
    return [
        f"{name}: {_shown(ours, name)} is asked, {_shown(theirs, name)} recorded"
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield path, value
        return
    for name, entry in inner:
        yield from _leaves(entry, f"{path}/{name}")


def _shown(leaves: Json, name: str) -> str:
    text = json.dumps(leaves[name], ensure_ascii=False) if name in leaves else "nothing"
    return text if len(text) <= _NAME_LENGTH else text[: _NAME_LENGTH - 1] + "…"


def _written(event: Event) -> Json:
    match event:
        case TextDelta(text, tokens):
            return {"text": text, "tokens": [asdict(token) for token in tokens]} if tokens else {"text": text}
        case ToolCall():
            return {"call": asdict(event)}
        case Result(value):
            return {"result": value}
        case Finished(reason, usage, is_json):
            return {"finished": reason, "usage": usage.as_dict(), "json": is_json}


async def _replayed(reply: Json, request_id: str) -> AsyncGenerator[Event]:
    for event in reply["events"]:
        if "call" in event:
            yield ToolCall(**event["call"])
        elif "result" in event:
            yield Result(event["result"])
        elif "usage" in event:
            yield Finished(event["finished"], Usage.from_dict(event["usage"]), event["json"])
        else:
            tokens = event.get("tokens", ())
            yield TextDelta(
                event["text"],
                tuple(TokenLogprob(one["text"], one["logprob"], tuple(map(tuple, one["top"]))) for one in tokens),
            )
    if "error" in reply:
        raise AiError.from_dict({**reply["error"], "requestId": request_id})
