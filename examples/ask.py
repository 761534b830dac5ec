"""Ask a question and print the answer as it is generated: `make demo`, or `python examples/ask.py "Your question"`."""

import asyncio
import sys

from worker import AiError, AIStream, Finished, TextDelta, env

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
QUESTION = "Why is the sky blue? Answer in two sentences."


async def main() -> None:
    question = " ".join(sys.argv[1:]) or QUESTION
    stream = await env.AI.run(MODEL, {"messages": [{"role": "user", "content": question}], "stream": True})
    assert isinstance(stream, AIStream)
    print(f"{MODEL}\nanswered by {stream.served_by}\n\n> {question}\n")
    async for event in stream.events():
        match event:
            case TextDelta(text):
                print(text, end="", flush=True)
            case Finished(usage=usage):
                print(f"\n\n[{usage.prompt_tokens} tokens read, {usage.completion_tokens} written]")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except AiError as error:
        sys.exit(str(error))
