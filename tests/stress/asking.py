"""Clients of every door: what they ask, and what they make of the answer."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

import httpx

from tests.stress.arithmetic_model import CHARACTERS, answer_to
from tests.worker.asking import MODEL

REST, WIRE, OPENAI = "rest", "wire", "openai"
DOORS = (REST, WIRE, OPENAI)
_ACCOUNT = "/client/v4/accounts/any/ai"


def greedy(prompt: str, count: int, **more: Any) -> dict[str, Any]:
    """Inputs whose answer is a closed form of ``prompt``."""
    return {"prompt": prompt, "raw": True, "max_tokens": count, "temperature": 0, **more}


def a_prompt(chance: random.Random, longest: int = 60) -> str:
    """Some characters."""
    return "".join(chance.choices(CHARACTERS, k=chance.randint(1, longest)))


def at(door: str, inputs: dict[str, Any]) -> tuple[str, dict[str, str], dict[str, Any]]:
    """The path, the headers and the body with which ``door`` is asked."""
    if door == REST:
        return f"{_ACCOUNT}/run/{MODEL}", {}, inputs
    if door == WIRE:
        return "/run?version=3", {"cf-consn-model-id": MODEL}, {"inputs": inputs, "options": {}}
    return f"{_ACCOUNT}/v1/completions", {}, {"model": MODEL, **inputs}


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client heard: a text, or a refusal's code and what its headers say."""

    status: int
    text: str | None
    code: int | None = None
    retry_after: str | None = None

    @property
    def refused_for_now(self) -> bool:
        """429 with 3040, and a whole number of seconds to wait."""
        return (self.status, self.code) == (429, 3040) and bool(self.retry_after and self.retry_after.isdigit())


async def ask(client: httpx.AsyncClient, door: str, inputs: dict[str, Any]) -> Heard:
    """The whole answer of ``door``, streamed or not."""
    path, headers, body = at(door, inputs)
    answer = await client.post(path, headers=headers, json=body)
    if answer.is_error:
        told = answer.json()
        code = told.get("internalCode") or told["errors"][0]["code"]
        return Heard(answer.status_code, None, code, answer.headers.get("retry-after"))
    if inputs.get("stream"):
        return Heard(answer.status_code, streamed(answer.text))
    told = answer.json()
    said = told["choices"][0]["text"] if door == OPENAI else told.get("result", told)["response"]
    return Heard(answer.status_code, said)


def streamed(body: str) -> str | None:
    """The text of a stream in any shape; ``None`` where it didn't come to its end."""
    data = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    if not data or data[-1] != "[DONE]":
        return None
    frames = [json.loads(line) for line in data[:-1]]
    return "".join(_piece(frame) for frame in frames)


def _piece(frame: dict[str, Any]) -> str:
    if frame.get("choices"):
        return str(frame["choices"][0].get("text") or "")
    return str(frame.get("response") or "")


def right(prompt: str, count: int) -> str:
    """What the arithmetic model answers."""
    return answer_to(prompt, count)
