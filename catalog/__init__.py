"""The model catalogue: cards, their schemas, and searching among them."""

from catalog.card import CardError, Limits, ModelCard, Price, Property, Task, load_card, parse_card
from catalog.schema import InvalidInput
from catalog.store import Catalog, Page, Query, UnknownModel

__all__ = [
    "CardError",
    "Catalog",
    "InvalidInput",
    "Limits",
    "ModelCard",
    "Page",
    "Price",
    "Property",
    "Query",
    "Task",
    "UnknownModel",
    "load_card",
    "parse_card",
]
