"""One Python client of Workers AI against a running roost: ``python clients.py CLIENT URL MODEL PROMPT``.

Runs in an environment of its own (``make test-clients``). Prints ``{plain, streamed, calls, refusal}``: the whole
answer, the same streamed, a forced call's arguments whole and streamed, and the exception for a model that isn't there.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

CLIENT, URL, MODEL, PROMPT = sys.argv[1:]
ACCOUNT = "0123456789abcdef0123456789abcdef"
NOBODY = "@cf/no/such"
OPENAI = f"{URL}/client/v4/accounts/{ACCOUNT}/ai/v1"
CITIES = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": CITIES}}


@dataclass
class Told:
    """What a client said, and how it is made to raise."""

    plain: str
    streamed: str
    refuse: Callable[[], object]
    calls: list[Any] = field(default_factory=list)


def langchain(endpoint: str) -> Told:
    from langchain_cloudflare import ChatCloudflareWorkersAI

    def chat(model: str, limit: int = 8) -> Any:
        return ChatCloudflareWorkersAI(
            account_id=ACCOUNT,
            api_token="any",
            base_url=f"{URL}/client/v4",
            model=model,
            temperature=0,
            max_tokens=limit,
            max_retries=0,
            **({"endpoint_format": endpoint} if endpoint else {}),
        )

    streamed = "".join(str(piece.content) for piece in chat(MODEL).stream(PROMPT))
    calling = chat(MODEL, 40).bind_tools([WEATHER], tool_choice="required")
    calls = [calling.invoke(PROMPT).tool_calls[0]["args"]]
    if not endpoint:  # as OpenAI it passes over the calls in a stream
        first, *rest = calling.stream(PROMPT)
        calls.append(sum(rest, first).tool_calls[0]["args"])
    return Told(str(chat(MODEL).invoke(PROMPT).content), streamed, lambda: chat(NOBODY).invoke(PROMPT), calls)


def litellm() -> Told:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network for prices
    from litellm import completion, stream_chunk_builder

    def run(model: str, **more: Any) -> Any:
        asked = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8, "temperature": 0, **more}
        return completion(model=f"cloudflare/{model}", api_base=OPENAI, api_key="any", num_retries=0, **asked)

    def called(answer: Any) -> Any:
        return json.loads(answer.choices[0].message.tool_calls[0].function.arguments)

    forced = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 40}
    calls = [run(MODEL, **forced), stream_chunk_builder(list(run(MODEL, stream=True, **forced)))]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in run(MODEL, stream=True))
    return Told(run(MODEL).choices[0].message.content, streamed, lambda: run(NOBODY), list(map(called, calls)))


def agents(*, responses: bool) -> Told:
    """OpenAI's Agents SDK, over chats or over responses; its agent says what a forced tool returns."""
    import asyncio

    from agents import (
        Agent,
        ModelSettings,
        OpenAIChatCompletionsModel,
        OpenAIResponsesModel,
        Runner,
        function_tool,
        set_tracing_disabled,
    )
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    made = OpenAIResponsesModel if responses else OpenAIChatCompletionsModel

    def agent(model: str, **more: Any) -> Any:
        settings = ModelSettings(temperature=0, max_tokens=40, tool_choice="required" if more else None)
        told = {"instructions": "Be brief.", "model_settings": settings, **more}
        return Agent(
            name="roost", model=made(model, AsyncOpenAI(base_url=OPENAI, api_key="any", max_retries=0)), **told
        )

    def weather(city: Literal["Paris", "Rome"]) -> str:
        """The weather."""
        return json.dumps({"city": city})

    async def streamed(asked: Any) -> str:
        answer = Runner.run_streamed(asked, PROMPT)
        async for _ in answer.stream_events():
            pass
        return str(answer.final_output)

    async def all_of_it() -> tuple[str, ...]:
        calling = agent(MODEL, tools=[function_tool(weather)], tool_use_behavior="stop_on_first_tool")
        whole, call = await Runner.run(agent(MODEL), PROMPT), await Runner.run(calling, PROMPT)
        return (whole.final_output, await streamed(agent(MODEL)), call.final_output, await streamed(calling))

    plain, same, *calls = asyncio.run(all_of_it())
    refuse = lambda: asyncio.run(Runner.run(agent(NOBODY), PROMPT))  # noqa: E731
    return Told(plain, same, refuse, list(map(json.loads, calls)))


def instructor() -> Told:
    """Its answers are objects, through a forced call."""
    import instructor
    from openai import OpenAI
    from pydantic import BaseModel

    class Weather(BaseModel):
        city: Literal["Paris", "Rome"]

    client: Any = instructor.from_openai(OpenAI(base_url=OPENAI, api_key="any", max_retries=0))

    def asked(model: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": PROMPT}]
        return {"model": model, "response_model": Weather, "messages": messages, "max_tokens": 40, "temperature": 0}

    whole = client.chat.completions.create(**asked(MODEL))
    *_, streamed = client.chat.completions.create_partial(**asked(MODEL))
    calls = [whole.model_dump(), streamed.model_dump()]
    refuse = lambda: client.chat.completions.create(max_retries=0, **asked(NOBODY))  # noqa: E731
    return Told(str(calls[0]), str(calls[1]), refuse, calls)


CLIENTS: dict[str, Callable[[], Told]] = {
    "langchain-cloudflare": lambda: langchain(""),
    "langchain-cloudflare, as OpenAI": lambda: langchain("openai_compatible"),
    "litellm": litellm,
    "openai-agents": lambda: agents(responses=False),
    "openai-agents, responses": lambda: agents(responses=True),
    "instructor": instructor,
}
told = CLIENTS[CLIENT]()
try:
    told.refuse()
    refusal: dict[str, str] | None = None
except Exception as error:
    refusal = {"name": type(error).__name__, "told": f"{error} {getattr(getattr(error, 'response', None), 'text', '')}"}
answer = {"plain": told.plain, "streamed": told.streamed, "calls": told.calls, "refusal": refusal}
sys.stdout.write(json.dumps(answer) + "\n")
