"""The shipped cards: whole, of roost's own words, and none of the published sentences in them."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog import Catalog, ModelCard, load_card
from catalog.store import SEED, SEED_FILE, SHIPPED
from catalog.write_cards import WORDS, write_cards

SEED_DIGEST = hashlib.sha256(SEED_FILE.read_bytes()).hexdigest()[:16]
_FEW_WORDS = 6


def test_the_seeds_card_is_what_it_was() -> None:
    assert SEED_DIGEST == "5e095959471ef95e"


def test_every_shipped_card_is_sound_and_alone_with_its_name() -> None:
    assert len(list(SHIPPED.iterdir())) == len(Catalog.load()) == 105
    assert {card.name: card.anomalies for card in Catalog.load() if card.anomalies} == {}


def test_every_shipped_card_has_words_of_its_own() -> None:
    words = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    told = {card.name: card.description for card in Catalog.load() if card.name != SEED}
    assert told == words["models"]
    assert len(set(told.values())) == len(told)


def test_no_published_sentence_is_in_a_shipped_card(published: list[Path]) -> None:
    theirs = {text for path in published for text in sentences(load_card(path))}
    ours = {text for card in Catalog.load() if card.name != SEED for text in sentences(card)}
    assert ours & theirs == set()


def test_the_shipped_cards_are_what_the_script_writes(published: list[Path], tmp_path: Path) -> None:
    write_cards([Path(__file__).parents[3] / "shared" / "cards"], tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        path.name: path.read_text() for path in SHIPPED.iterdir() if path != SEED_FILE
    }


@pytest.mark.parametrize("top_p", [0, 1.5])
def test_what_users_of_2024_send_is_still_taken(top_p: float) -> None:
    Catalog.load()["@hf/google/gemma-7b-it"].validate_inputs({"prompt": "a", "top_p": top_p})


def sentences(card: ModelCard) -> set[str]:
    found = {card.description, card.task.description, *texts(card.input_schema), *texts(card.output_schema)}
    return {text.strip() for text in found if len(text.split()) >= _FEW_WORDS}


def texts(node: Any) -> set[str]:
    if isinstance(node, str):
        return {node}
    inner = (
        [value for key, value in node.items() if key != "default"]
        if isinstance(node, dict)
        else node
        if isinstance(node, list)
        else ()
    )
    return set[str]().union(*map(texts, inner))
