"""Every shipped model that runs answers in a shape that its card promises, whole and streamed."""

import json
from typing import Any

import pytest

from catalog import Catalog, InvalidInput, ModelCard
from runtime.artifacts import TEXT_EMBEDDINGS
from runtime.tasks import TASKS
from worker import AI, AiError, AIStream

pytestmark = pytest.mark.weights
RUNNABLE = [card for card in Catalog.load() if card.task.name in TASKS]
FEW = {"max_tokens": 3, "temperature": 0}
CHAT = [{"role": "user", "content": "Hello"}]
ASKED: list[dict[str, Any]] = [{"prompt": "Hello"}, {"messages": CHAT}, {"input": "Hello"}]
TEXT: dict[str, Any] = {"text": ["Hello", "Hello again"]}
VISION, BATCH = "@cf/meta/llama-3.2-11b-vision-instruct", "@cf/meta/llama-3.3-70b-instruct-fp8-fast"


def takes(card: ModelCard, inputs: dict[str, Any]) -> bool:
    try:
        card.validate_inputs(inputs)
    except InvalidInput:
        return False
    return "messages" in inputs or next(iter(inputs)) in card.inputs.names


@pytest.mark.parametrize("card", RUNNABLE, ids=lambda card: card.name)
async def test_an_answer_is_of_the_cards_output_schema(ai: AI, card: ModelCard) -> None:
    embeds = TASKS[card.task.name] == TEXT_EMBEDDINGS
    asked = [TEXT] if embeds else [{**inputs, **FEW} for inputs in ASKED if takes(card, inputs)]
    assert asked
    for inputs in asked:
        answer = await ai.run(card.name, inputs)
        assert isinstance(answer, dict)
        assert card.outputs is None or card.outputs.accepts(answer), answer
        if "stream" in card.inputs.names:
            stream = await ai.run(card.name, {**inputs, "stream": True})
            assert isinstance(stream, AIStream)
            frames = [frame async for frame in stream]
            bodies = [json.loads(frame.removeprefix(b"data: ")) for frame in frames if frame != b"data: [DONE]\n\n"]
            assert not any("errors" in body for body in bodies)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (VISION, {"prompt": "What is this?", "image": [1, 2, 3]}),
        (BATCH, {"requests": [{"prompt": "Hello"}]}),
        ("@cf/zai-org/glm-4.7-flash", {"messages": CHAT, "n": 2}),
    ],
)
async def test_what_roost_cannot_do_is_refused_clearly(ai: AI, model: str, inputs: dict[str, Any]) -> None:
    with pytest.raises(AiError) as caught:
        await ai.run(model, inputs)
    assert caught.value.code == 5902
