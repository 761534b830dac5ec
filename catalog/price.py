"""What a run would have cost on the platform, in neurons, by the price list of the model's card.

A thousand neurons cost 0.011 USD (developers.cloudflare.com/workers-ai/platform/pricing).
"""

from __future__ import annotations

from catalog.card import ModelCard, Price

_USD_PER_NEURON = 0.011 / 1000
_MILLION = 1_000_000


def neurons(card: ModelCard, *, read: int, cached: int, written: int) -> float | None:
    """Neurons for ``read`` prompt tokens, ``cached`` of them kept from before, and ``written`` ones.

    ``None`` where the card has no price per token in USD. Cached tokens cost as much as others where it names no price.
    """
    prices = {price.unit: price.price for price in _list(card) if price.currency == "USD"}
    if (fresh := prices.get("per M input tokens")) is None:
        return None
    kept = prices.get("per M cached input tokens", fresh)
    usd = ((read - cached) * fresh + cached * kept + written * prices.get("per M output tokens", 0)) / _MILLION
    return usd / _USD_PER_NEURON


def _list(card: ModelCard) -> tuple[Price, ...]:
    found = (entry.value for entry in card.properties if entry.property_id == "price")
    return next((value for value in found if isinstance(value, tuple)), ())
