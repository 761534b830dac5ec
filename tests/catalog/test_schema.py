"""What a card accepts is what its JSON Schema accepts; what it refuses is refused in the platform's words."""

import copy
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from catalog import Catalog, InvalidInput, ModelCard
from tests.catalog.conftest import SEED_NAME

SEED = Catalog.load()[SEED_NAME]
CHAT = [{"role": "user", "content": "hello"}]
NEITHER = "required properties at '/' are 'prompt'"
NO_MATCH = "oneOf at '/' not met, 0 matches: "

REFUSED: list[tuple[Any, str]] = [
    ({}, f"{NO_MATCH}{NEITHER}, required properties at '/' are 'messages'"),
    ({"max_tokens": 5}, f"{NO_MATCH}{NEITHER}, required properties at '/' are 'messages'"),
    ({"messages": []}, f"{NO_MATCH}{NEITHER}, required properties at '/' are 'messages'"),
    ({"prompt": None}, f"{NO_MATCH}{NEITHER}, required properties at '/' are 'messages'"),
    ({"prompt": "a", "messages": CHAT}, "oneOf at '/' not met, 2 matches"),
    ({"prompt": "a", "temperature": 9}, f"{NO_MATCH}'/temperature' must be <= 5"),
    ({"prompt": "a", "temperature": -1}, f"{NO_MATCH}'/temperature' must be >= 0"),
    ({"messages": CHAT, "temperature": 9}, f"{NO_MATCH}'/temperature' must be <= 5"),
    ({"prompt": "a", "top_p": 2.5}, f"{NO_MATCH}'/top_p' must be <= 2"),
    ({"prompt": "a", "top_k": 51}, f"{NO_MATCH}'/top_k' must be <= 50"),
    ({"prompt": "a", "top_k": 0}, f"{NO_MATCH}'/top_k' must be >= 1"),
    ({"prompt": "a", "seed": 0}, f"{NO_MATCH}'/seed' must be >= 1"),
    ({"prompt": "a", "seed": 10**10}, f"{NO_MATCH}'/seed' must be <= 9999999999"),
    ({"prompt": "a", "stream": "yes"}, f"{NO_MATCH}Type mismatch of '/stream', 'string' not in 'boolean'"),
    ({"prompt": "a", "max_tokens": 1.5}, f"{NO_MATCH}Type mismatch of '/max_tokens', 'number' not in 'integer'"),
    (
        {"prompt": ""},
        f"{NO_MATCH}Length of '/prompt' must be >= 1, required properties at '/' are 'messages'",
    ),
    (
        {"prompt": "a" * 6145},
        f"{NO_MATCH}Length of '/prompt' must be <= 6144, required properties at '/' are 'messages'",
    ),
    (
        {"messages": [{"role": "user", "content": "a" * 6145}]},
        f"{NO_MATCH}{NEITHER}, Length of '/messages/0/content' must be <= 6144",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        f"{NO_MATCH}{NEITHER}, Type mismatch of '/messages/0/content', 'array' not in 'string'",
    ),
    (
        {"messages": [*CHAT, {"role": "user", "content": None}]},
        f"{NO_MATCH}{NEITHER}, Type mismatch of '/messages/1/content', 'null' not in 'string'",
    ),
    (
        {"messages": [*CHAT, {"role": "user"}]},
        f"{NO_MATCH}{NEITHER}, required properties at '/messages/1' are 'role,content'",
    ),
    (
        {"messages": "hello"},
        f"{NO_MATCH}{NEITHER}, Type mismatch of '/messages', 'string' not in 'array'",
    ),
    ("hello", "Type mismatch of '/', 'string' not in 'object'"),
    ([CHAT], "Type mismatch of '/', 'array' not in 'object'"),
    (None, "Type mismatch of '/', 'null' not in 'object'"),
    (7, "Type mismatch of '/', 'integer' not in 'object'"),
]


@pytest.mark.parametrize(("inputs", "said"), REFUSED)
def test_a_refusal_is_in_the_platforms_words(seed: ModelCard, inputs: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        seed.validate_inputs(inputs)
    assert str(caught.value) == said
    assert caught.value.path == "/"


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, b"bytes", object(), {1, 2}, Ellipsis],
    ids=["NaN", "infinity", "bytes", "object", "set", "ellipsis"],
)
@pytest.mark.parametrize("name", ["prompt", "temperature"])
def test_what_json_cannot_express_is_refused(seed: ModelCard, name: str, value: object) -> None:
    with pytest.raises(InvalidInput):
        seed.validate_inputs({"prompt": "a", name: value})


def test_an_endless_nesting_is_refused(seed: ModelCard) -> None:
    deepest: list[object] = []
    for _ in range(3000):
        deepest = [deepest]
    with pytest.raises(InvalidInput, match="not JSON"):
        seed.validate_inputs({"prompt": deepest})


def test_a_value_that_compares_to_nothing_is_refused(seed: ModelCard) -> None:
    class Tensor:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    with pytest.raises(InvalidInput):
        seed.validate_inputs({"prompt": Tensor()})


@pytest.mark.parametrize("length", [1, 6144])
def test_a_prompts_length_is_counted_in_characters(seed: ModelCard, length: int) -> None:
    assert seed.validate_inputs({"prompt": "é" * length})["prompt"] == "é" * length
    assert seed.validate_inputs({"prompt": "😀" * length})["prompt"] == "😀" * length


def test_a_prompt_gets_its_variants_defaults(seed: ModelCard) -> None:
    assert seed.validate_inputs({"prompt": "a"}) == {"prompt": "a", "raw": False, "stream": False, "max_tokens": 256}


def test_messages_get_no_default_of_the_prompts(seed: ModelCard) -> None:
    assert seed.validate_inputs({"messages": CHAT}) == {"messages": CHAT, "stream": False, "max_tokens": 256}


def test_what_is_given_wins_over_a_default(seed: ModelCard) -> None:
    given_all = {"prompt": "a", "raw": True, "stream": True, "max_tokens": 1, "temperature": 0, "top_p": 2}
    assert seed.validate_inputs(given_all) == given_all


def test_unknown_names_and_nulls_are_dropped(seed: ModelCard) -> None:
    extra = {"model": "gpt", "n": 1, "user": "me", "stop": None, "temperature": None, "options": {"rejectIfBusy": True}}
    assert seed.validate_inputs({"prompt": "a", **extra}) == seed.validate_inputs({"prompt": "a"})


def test_an_empty_list_counts_as_absent(seed: ModelCard) -> None:
    assert seed.validate_inputs({"prompt": "a", "messages": []}) == seed.validate_inputs({"prompt": "a"})


def inputs() -> st.SearchStrategy[dict[str, Any]]:
    """Inputs near the border of what the seed card accepts."""
    scalar = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, 1, 2, 2.0, 2.5, 5, 50, 51, 9_999_999_999, 10**10]),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=3),
    )
    message = st.fixed_dictionaries({}, optional={"role": st.text(max_size=4) | scalar, "content": st.text() | scalar})
    messages = st.lists(message | scalar, max_size=3) | scalar
    rest = st.dictionaries(st.sampled_from(sorted(SEED.inputs.names | {"unknown"})), scalar, max_size=4)
    asked = st.fixed_dictionaries({}, optional={"prompt": st.text(max_size=4) | scalar, "messages": messages})
    return st.builds(lambda one, other: {**one, **other}, rest, asked)


@settings(deadline=None, max_examples=300)
@given(inputs())
def test_the_verdict_is_the_schemas_once_nulls_and_empty_lists_are_gone(asked: dict[str, Any]) -> None:
    before = copy.deepcopy(asked)
    present = {name: value for name, value in asked.items() if value is not None and value != []}
    assert accepts(asked) == Draft202012Validator(SEED.input_schema).is_valid(present)
    assert asked == before


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional={"temperature": st.floats(0, 5), "raw": st.booleans()}), st.booleans())
def test_what_was_accepted_is_accepted_again_unchanged(asked: dict[str, Any], chat: bool) -> None:
    once = SEED.validate_inputs({**asked, "messages": CHAT} if chat else {**asked, "prompt": "a"})
    assert SEED.validate_inputs(once) == once


def accepts(asked: dict[str, Any]) -> bool:
    try:
        SEED.validate_inputs(asked)
    except InvalidInput:
        return False
    return True
