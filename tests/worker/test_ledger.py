"""What answers would have cost: by the card's price, in the header, in a stream's usage, and summed up."""

import json
from contextlib import aclosing

import pytest

from catalog import Catalog, ModelCard
from catalog.card import Price, Property
from catalog.price import neurons
from tests.worker.asking import GREEDY, MODEL, answer, stream
from worker import AI

CARD = Catalog.load()[MODEL]


def priced(**prices: float) -> ModelCard:
    """The seed's card with prices in USD per million tokens, of ``input``, ``output``, ``cached_input``."""
    lines = tuple(
        Price(unit=f"per M {kind.replace('_', ' ')} tokens", price=price, currency="USD")
        for kind, price in prices.items()
    )
    return CARD.model_copy(update={"properties": (*CARD.properties, Property(property_id="price", value=lines))})


def test_neurons_are_the_price_over_the_price_of_a_neuron() -> None:
    million = {"read": 1_000_000, "cached": 0, "written": 0}
    assert neurons(priced(input=0.11), **million) == pytest.approx(10_000)
    assert neurons(priced(input=0.11, output=0.22), read=0, cached=0, written=1_000_000) == pytest.approx(20_000)
    assert neurons(priced(input=0.11, cached_input=0.011), **{**million, "cached": 1_000_000}) == pytest.approx(1_000)
    assert neurons(priced(input=0.11), **{**million, "cached": 1_000_000}) == pytest.approx(10_000)
    assert neurons(CARD, **million) is None


@pytest.mark.weights
async def test_an_answer_tells_its_neurons_and_the_ledger_sums_them_up() -> None:
    card = priced(input=0.11, output=0.22)
    async with aclosing(AI(catalog=Catalog({MODEL: card}))) as ai:
        answering = await ai.generate(MODEL, GREEDY)
        usage = (await answering.result())["usage"]
        cost = neurons(card, read=usage["prompt_tokens"], cached=0, written=8)
        assert cost is not None
        assert float(answering.headers["cf-ai-neurons"]) == pytest.approx(cost, abs=1e-4)
        *_, last, _ = [frame async for frame in await stream(ai, GREEDY)]
        assert json.loads(last[6:])["usage"]["neurons"] == pytest.approx(cost, abs=1e-4)
        (row,) = ai.ledger.as_rows()
    assert (row["model"], row["requests"], row["completion_tokens"]) == (MODEL, 2, 16)
    assert row["neurons"] == pytest.approx(2 * cost)


@pytest.mark.weights
async def test_without_a_price_there_is_no_header() -> None:
    async with aclosing(AI()) as ai:
        answering = await ai.generate(MODEL, GREEDY)
        await answering.result()
        assert "cf-ai-neurons" not in answering.headers
        await answer(ai, GREEDY)
        (row,) = ai.ledger.as_rows()
    assert (row["requests"], row["neurons"]) == (2, None)
