"""Every card that Cloudflare has published parses, and is odd only where it is known to be."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from catalog import InvalidInput, ModelCard, load_card
from catalog.schema import practical

KNOWN_ODD = {
    "flux-2-dev.json": "the input schema doesn't compile",
    "meta-llama-3-8b-instruct.md": "no input schema",
    "whisper-tiny-en@4e8c9fd0.md": "no input schema",
}
ASKED: list[dict[str, Any]] = [
    {},
    {"prompt": "hello"},
    {"text": "hello"},
    {"messages": [{"role": "user", "content": "hello"}]},
    {"prompt": "hello", "temperature": 9, "max_tokens": "many"},
    {"prompt": 1, "messages": "hello", "text": {}},
]


@pytest.fixture(scope="module")
def cards(published: list[Path]) -> dict[Path, ModelCard]:
    return {path: load_card(path) for path in published}


def test_every_published_card_parses(cards: dict[Path, ModelCard]) -> None:
    assert len(cards) == 143


def test_a_published_card_bears_its_files_name(cards: dict[Path, ModelCard]) -> None:
    assert [path.name for path, card in cards.items() if card.display_name != path.stem.partition("@")[0]] == []


def test_a_cards_own_task_type_is_its_tasks_slug(cards: dict[Path, ModelCard]) -> None:
    for path, card in cards.items():
        if path.suffix == ".md":
            written = yaml.safe_load(path.read_text(encoding="utf-8").split("\n---")[0])
            assert card.task_type == written["task_type"], path.name


def test_anomalies_are_reported_for_the_known_odd_cards_alone(cards: dict[Path, ModelCard]) -> None:
    odd = {path.name: card.anomalies for path, card in cards.items() if card.anomalies}
    assert odd.keys() == KNOWN_ODD.keys()
    assert all(odd[name][0].startswith(sentence) for name, sentence in KNOWN_ODD.items())
    assert all("\n" not in anomaly for found in odd.values() for anomaly in found)


def test_a_published_cards_verdict_is_its_schemas(cards: dict[Path, ModelCard]) -> None:
    for path, card in cards.items():
        if card.anomalies:
            continue
        reference = Draft202012Validator(practical(card.input_schema or {}))
        for inputs in ASKED:
            assert accepted(card, inputs) == reference.is_valid(inputs), (path.name, inputs)


def accepted(card: ModelCard, inputs: dict[str, Any]) -> bool:
    try:
        card.validate_inputs(inputs)
    except InvalidInput:
        return False
    return True
