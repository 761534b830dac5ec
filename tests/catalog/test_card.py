"""A card says what its file says, and a file that is no card says why in one sentence."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import CardError, Limits, ModelCard, load_card, parse_card
from catalog.store import SHIPPED

SEED = SHIPPED / "starling-lm-7b-beta.md"
SEED_SHA256 = "5e095959471ef95e3a5bf61d4b431d65bd4a67f6e6c4e674d7c18faded30344a"
IDENTITY = {
    "id": "an-id",
    "source": 2,
    "name": "@hf/someone/some-model",
    "description": " It talks.\n",
    "task": {"id": "a-task-id", "name": "Text Generation"},
}
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}

MISTAKES = {
    "an empty file": ("", ".md", "no front matter"),
    "no front matter": ("# A model", ".md", "no front matter"),
    "front matter without an end": ("---\nmodel: {}", ".md", "no closing ---"),
    "front matter that holds nothing": ("---\n---\n", ".md", "mapping"),
    "not YAML": ("---\n: : :\n---", ".md", "not YAML"),
    "YAML that builds objects": ("x: !!python/object:os.system {}", ".yaml", "not YAML"),
    "YAML with an unhashable name": ("? [1]\n: 2", ".yaml", "not YAML"),
    "YAML with a date that isn't": ("created_at: 2024-99-99", ".yaml", "not YAML"),
    "YAML nested without end": ("[" * 100_000, ".yaml", "not YAML"),
    "YAML lists within lists without end": ("- " * 100_000, ".yaml", "not YAML"),
    "control characters": ("\0\1\2", ".yaml", "not YAML"),
    "not JSON": ("{", ".json", "not JSON"),
    "an empty JSON file": ("", ".json", "not JSON"),
    "JSON nested without end": ("[" * 100_000, ".json", "not JSON"),
    "a list": ("[]", ".json", "mapping"),
    "a model that isn't a mapping": ("model: 3", ".yaml", "model"),
    "nothing that a card needs": ("model: {}", ".yaml", "id"),
    "an id of the wrong type": (json.dumps({**IDENTITY, "id": 1}), ".json", "id"),
    "a source that isn't one": (json.dumps({**IDENTITY, "source": 3}), ".json", "source"),
    "a name without its parts": (json.dumps({**IDENTITY, "name": "starling"}), ".json", "name"),
    "a task without a name": (json.dumps({**IDENTITY, "task": {"id": "x"}}), ".json", "task.name"),
    "properties that aren't a list": (json.dumps({**IDENTITY, "properties": 1}), ".json", "properties"),
    "schemas that aren't a mapping": (json.dumps({**IDENTITY, "schema": 3}), ".json", "schemas"),
    "a schema that isn't JSON": (json.dumps({**IDENTITY, "json_schema": {"input": "{"}}), ".json", "not JSON"),
}


def test_the_shipped_seed_card_is_the_published_one_byte_for_byte() -> None:
    assert hashlib.sha256(SEED.read_bytes()).hexdigest() == SEED_SHA256


def test_the_seed_card_parses_to_its_facts(seed: ModelCard) -> None:
    assert seed.id == "e5ca943b-720f-4e66-aa8f-40e3d2770933"
    assert (seed.source, seed.name) == (2, "@hf/nexusflow/starling-lm-7b-beta")
    assert (seed.author, seed.display_name) == ("nexusflow", "starling-lm-7b-beta")
    assert (seed.task.id, seed.task.name) == ("c329a1f9-323d-4e91-b2aa-582dd4188d34", "Text Generation")
    assert seed.task_type == "text-generation"
    assert seed.description.startswith("We introduce Starling-LM-7B-beta, an open large language model")
    assert (seed.beta, seed.deprecated, seed.created_at, seed.tags) == (True, False, None, ())
    assert seed.anomalies == ()


def test_the_seed_cards_limits_are_numbers(seed: ModelCard) -> None:
    assert seed.limits == Limits(max_input_length=3072, max_total_tokens=4096, max_batch_prefill_tokens=8192)


def test_properties_stay_as_they_are_written(seed: ModelCard) -> None:
    assert [(entry.property_id, entry.value) for entry in seed.properties] == [
        ("beta", "true"),
        ("info", "https://huggingface.co/Nexusflow/Starling-LM-7B-beta"),
        ("max_batch_prefill_tokens", "8192"),
        ("max_input_length", "3072"),
        ("max_total_tokens", "4096"),
    ]
    assert seed.text_of("lora") is None


def test_a_schema_is_the_one_written_in_the_card(seed: ModelCard) -> None:
    written = yaml.safe_load(SEED.read_text(encoding="utf-8").split("---")[1])["json_schema"]
    assert seed.input_schema == json.loads(written["input"])
    assert seed.output_schema == json.loads(written["output"])


@pytest.mark.parametrize("path", sorted(SHIPPED.iterdir()), ids=lambda path: path.stem)
def test_every_shipped_card_parses_without_anomaly_and_bears_its_files_name(path: Path) -> None:
    card = load_card(path)
    assert card.anomalies == ()
    assert card.display_name == path.stem


@pytest.mark.parametrize(("text", "suffix", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_what_is_no_card_is_a_card_error_of_one_line(text: str, suffix: str, said: str) -> None:
    with pytest.raises(CardError) as caught:
        parse_card(text, suffix)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".md", ".yaml", ".json"])
def test_a_binary_file_is_a_card_error_that_names_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(CardError, match=f"weights{suffix}: "):
        load_card(path)


@settings(deadline=None)
@given(st.text(), st.sampled_from([".md", ".yaml", ".json"]))
def test_no_text_raises_anything_but_a_card_error(text: str, suffix: str) -> None:
    with pytest.raises(CardError):
        parse_card(text, suffix)


def test_json_bare_yaml_and_front_matter_hold_the_same_card() -> None:
    flat = {**IDENTITY, "schema": {"input": SCHEMA}}
    nested = {"model": IDENTITY, "json_schema": {"input": json.dumps(SCHEMA)}}
    front_matter = f"---\n{yaml.safe_dump(nested)}\n---\nAnd a body.\n"
    card = parse_card(json.dumps(flat), ".json")
    assert card.description == "It talks."
    assert card.input_schema == SCHEMA
    assert parse_card(yaml.safe_dump(nested), ".yaml") == card
    assert parse_card(front_matter) == card
    assert parse_card("\ufeff" + front_matter.replace("\n", "\r\n")) == card


def test_a_card_without_schemas_says_so_and_accepts_anything() -> None:
    card = parse_card(json.dumps({**IDENTITY, "json_schema": ""}), ".json")
    assert card.anomalies == ("no input schema", "no output schema")
    assert card.validate_inputs({"anything": 1}) == {"anything": 1}


def test_a_property_that_is_no_number_is_no_limit() -> None:
    properties = [{"property_id": "max_total_tokens", "value": "many"}]
    assert parse_card(json.dumps({**IDENTITY, "properties": properties}), ".json").limits == Limits()


def test_a_price_is_a_list_of_amounts() -> None:
    price = [{"unit": "per M input tokens", "price": 0.1, "currency": "USD"}]
    card = parse_card(json.dumps({**IDENTITY, "properties": [{"property_id": "price", "value": price}]}), ".json")
    (entry,) = card.properties
    assert not isinstance(entry.value, str)
    assert entry.value[0].price == 0.1
    assert card.text_of("price") is None


def test_aliases_that_grow_without_end_are_refused() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(CardError, match="aliases"):
        parse_card("\n".join(lines), ".yaml")
