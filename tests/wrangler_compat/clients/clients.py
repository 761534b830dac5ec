"""One Python client of Workers AI against a running roost: ``python clients.py CLIENT URL MODEL PROMPT``.

Runs in an environment of its own (``make test-clients``). Prints ``{plain, streamed, refusal}``: the whole answer, the
same streamed, and the exception for a model that isn't there.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

CLIENT, URL, MODEL, PROMPT = sys.argv[1:]
ACCOUNT = "0123456789abcdef0123456789abcdef"
NOBODY = "@cf/no/such"


def langchain(endpoint: str) -> tuple[str, str, Callable[[], object]]:
    from langchain_cloudflare import ChatCloudflareWorkersAI

    def chat(model: str) -> Any:
        return ChatCloudflareWorkersAI(
            account_id=ACCOUNT,
            api_token="any",
            base_url=f"{URL}/client/v4",
            model=model,
            temperature=0,
            max_tokens=8,
            max_retries=0,
            **({"endpoint_format": endpoint} if endpoint else {}),
        )

    streamed = "".join(str(piece.content) for piece in chat(MODEL).stream(PROMPT))
    return str(chat(MODEL).invoke(PROMPT).content), streamed, lambda: chat(NOBODY).invoke(PROMPT)


def litellm() -> tuple[str, str, Callable[[], object]]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network for prices
    from litellm import completion

    def run(model: str, *, stream: bool = False) -> Any:
        return completion(
            model=f"cloudflare/{model}",
            api_base=f"{URL}/client/v4/accounts/{ACCOUNT}/ai/v1",
            api_key="any",
            messages=[{"role": "user", "content": PROMPT}],
            max_tokens=8,
            temperature=0,
            num_retries=0,
            stream=stream,
        )

    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in run(MODEL, stream=True))
    return run(MODEL).choices[0].message.content, streamed, lambda: run(NOBODY)


CLIENTS: dict[str, Callable[[], tuple[str, str, Callable[[], object]]]] = {
    "langchain-cloudflare": lambda: langchain(""),
    "langchain-cloudflare, as OpenAI": lambda: langchain("openai_compatible"),
    "litellm": litellm,
}
plain, streamed, refuse = CLIENTS[CLIENT]()
try:
    refuse()
    refusal: dict[str, str] | None = None
except Exception as error:
    refusal = {"name": type(error).__name__, "told": f"{error} {getattr(getattr(error, 'response', None), 'text', '')}"}
sys.stdout.write(json.dumps({"plain": plain, "streamed": streamed, "refusal": refusal}) + "\n")
