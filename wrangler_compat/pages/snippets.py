"""Requests as code to paste: curl, a Worker in JavaScript, Python with roost's own AI and with OpenAI's SDK.

A template holds :data:`INPUTS` where the inputs go, written as its language writes values; the playground puts in what
its form says, in the browser, by the same rule.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from catalog import ModelCard
from catalog.schema import leaves
from wrangler_compat.pages.render import path_of
from wrangler_compat.pages.schema_tree import properties, required_names

INPUTS = "__INPUTS__"
Notation = Literal["shell", "javascript", "python", "keywords"]
_TEXTS = {
    "text": "roost answers on your own machine.",
    "sample_rate": "16000",
    "input_text": "A long text to make short.",
    "target_lang": "fr",
}
_CHAT = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}
_IN_OPENAI = {"messages", "temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "max_tokens"}


@dataclass(frozen=True, slots=True)
class Snippet:
    """Code with a hole. ``notation``: how the inputs are written into it."""

    name: str
    title: str
    notation: Notation
    template: str
    notes: str = ""

    def filled(self, inputs: Mapping[str, Any]) -> str:
        """The code for ``inputs``."""
        return self.template.replace(INPUTS, written(inputs, self.notation))

    def as_json(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The snippet as the page's twin has it."""
        return {**asdict(self), "code": self.filled(inputs)}


def snippets(card: ModelCard, url: str, *, token: bool) -> list[Snippet]:
    """Every snippet for a model, of the roost at ``url``; with ``token`` they take it from ``ROOST_TOKEN``."""
    found = [_curl(card, url, token=token), _worker(card), _python(card, url, token=token)]
    return [*found, _openai(card, url, token=token)] if card.task.name == "Text Generation" else found


def example(card: ModelCard) -> dict[str, Any]:
    """Inputs that the card's schema takes: a chat, or what its first variant with names requires."""
    branches = leaves(card.input_schema or {})
    if card.task.name == "Text Generation" and any("messages" in properties(branch) for branch in branches):
        return {**_CHAT, "max_tokens": 64}
    named = [branch for branch in branches if properties(branch)]
    best = min(named, key=lambda branch: not required_names(branch), default={})
    return {name: _value(name, properties(best).get(name)) for name in required_names(best)}


def written(inputs: Mapping[str, Any], notation: Notation) -> str:
    """``inputs`` as a language writes them."""
    if notation == "shell":
        return shlex.quote(json.dumps(inputs, ensure_ascii=False))
    if notation == "javascript":
        return json.dumps(inputs, ensure_ascii=False, indent=2).replace("\n", "\n    ")
    if notation == "python":
        return _literal(inputs)
    given = dict(inputs)
    if "prompt" in given and "messages" not in given:
        given = {"messages": [{"role": "user", "content": given.pop("prompt")}], **given}
    own = {name: value for name, value in given.items() if name not in _IN_OPENAI}
    named = [f"    {name}={_literal(given[name])},\n" for name in given if name in _IN_OPENAI]
    return "".join(named) + (f"    extra_body={_literal(own)},\n" if own else "")


def _literal(value: Any) -> str:
    """JSON's values in Python's notation; its texts are texts there, too."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)}: {_literal(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _value(name: str, spec: object) -> Any:
    """A value for a required input, by its schema."""
    given: Mapping[str, Any] = spec if isinstance(spec, Mapping) else {}
    if "default" in given:
        return given["default"]
    if isinstance(choices := given.get("enum"), list) and choices:
        return choices[0]
    match given.get("type"):
        case "integer" | "number":
            return given.get("minimum", 1)
        case "boolean":
            return False
        case "array":
            return [_value(name, given.get("items"))]
        case "object":
            return {need: _value(need, properties(given).get(need)) for need in required_names(given)}
        case _:
            return _TEXTS.get(name, "Why is the sky blue?")


def _curl(card: ModelCard, url: str, *, token: bool) -> Snippet:
    address = shlex.quote(f"{url}/client/v4/accounts/local/ai/run/{path_of(card.name)}")
    bearer = ' \\\n  -H "Authorization: Bearer $ROOST_TOKEN"' if token else ""
    return Snippet("curl", "curl", "shell", f"curl -s {address}{bearer} \\\n  -d {INPUTS}\n")


def _worker(card: ModelCard) -> Snippet:
    code = (
        "export default {\n"
        "  async fetch(request, env) {\n"
        f"    const answer = await env.AI.run({json.dumps(card.name)}, {INPUTS});\n"
        "    return Response.json(answer);\n"
        "  },\n"
        "};\n"
    )
    notes = 'src/index.js of a project whose wrangler.toml has [ai] with binding = "AI": roost dev runs it'
    return Snippet("javascript", "JavaScript (Worker)", "javascript", code, notes)


def _python(card: ModelCard, url: str, *, token: bool) -> Snippet:
    given = ', token=os.environ["ROOST_TOKEN"]' if token else ""
    code = (
        "import asyncio\n" + ("import os\n" if token else "") + "\nfrom worker import AI\n\n\n"
        "async def main():\n"
        f"    ai = AI(url={json.dumps(url)}{given})\n"
        f"    answer = await ai.run({json.dumps(card.name)}, {INPUTS})\n"
        "    print(answer)\n"
        "    await ai.aclose()\n\n\n"
        "asyncio.run(main())\n"
    )
    return Snippet("python", "Python (roost)", "python", code)


def _openai(card: ModelCard, url: str, *, token: bool) -> Snippet:
    key = 'os.environ["ROOST_TOKEN"]' if token else '"any"'
    code = (
        ("import os\n\n" if token else "") + "from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={json.dumps(f'{url}/client/v4/accounts/local/ai/v1')}, api_key={key})\n"
        "answer = client.chat.completions.create(\n"
        f"    model={json.dumps(card.name)},\n"
        f"{INPUTS})\n"
        "print(answer.choices[0].message.content)\n"
    )
    return Snippet("openai", "Python (openai)", "keywords", code)
