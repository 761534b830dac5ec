"""Grammars: whatever a constrained walk over the vocabulary says is JSON of the schema; hostile schemas cost little."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runtime.artifacts import Artifact, ArtifactStore
from runtime.errors import BadParameter, JsonUnmet
from runtime.grammar import GrammarConstraint, Grammars, json_rule
from runtime.json_schema import MAX_SCHEMA, check
from runtime.stand_in import find_stand_in

pytestmark = pytest.mark.weights

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mood": {"enum": ["good", "bad", None]},
        "friends": {"type": "array", "items": {"$ref": "#/$defs/friend"}, "maxItems": 2},
    },
    "required": ["name", "age", "friends"],
    "additionalProperties": False,
    "$defs": {"friend": {"anyOf": [{"type": "boolean"}, {"const": "Ada"}]}},
}


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    found = find_stand_in(ArtifactStore())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def grammars(artifact: Artifact) -> Grammars:
    manifest = artifact.manifest
    assert manifest.vocab is not None
    return Grammars(artifact.tokenizer().to_json, manifest.vocab, frozenset(manifest.stop_tokens))


def compiled(grammars: Grammars, *schemas: dict[str, Any]) -> GrammarConstraint:
    return grammars.compile([json_rule(schema, "/x") for schema in schemas])


def walk(constraint: GrammarConstraint, seed: int, stops: set[int], most: int = 400) -> list[int]:
    """The tokens of a random walk, up to a stop token."""
    random, tokens = np.random.default_rng(seed), list[int]()
    for _ in range(most):
        token = int(random.choice(np.flatnonzero(constraint.allowed())))
        constraint.accept(token)
        if token in stops:
            return tokens
        tokens.append(token)
    raise AssertionError("the walk doesn't end")


@pytest.mark.parametrize("seed", range(12))
def test_any_walk_is_json_of_the_schema(artifact: Artifact, grammars: Grammars, seed: int) -> None:
    tokens = walk(compiled(grammars, PERSON), seed, set(artifact.manifest.stop_tokens))
    Draft202012Validator(PERSON).validate(json.loads(artifact.tokenizer().decode(tokens)))


LEAVES = st.sampled_from(
    [{"type": "boolean"}, {"type": "null"}, {"enum": [1, "a", [2]]}, {"type": "string", "maxLength": 3}]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(lambda of: {"type": "array", "items": of, "maxItems": 2}, inner)
        | st.builds(
            lambda of: {"type": "object", "properties": of, "required": [*of], "additionalProperties": False},
            st.dictionaries(st.sampled_from(["a", "b c", '"', "é"]), inner, max_size=3),
        )
    ),
    max_leaves=5,
)


@settings(max_examples=25, deadline=None)
@given(SCHEMAS, st.integers(0, 99))
def test_any_schema_s_walk_is_json_of_it(
    artifact: Artifact, grammars: Grammars, schema: dict[str, Any], seed: int
) -> None:
    tokens = walk(compiled(grammars, schema), seed, set(artifact.manifest.stop_tokens))
    Draft202012Validator(schema).validate(json.loads(artifact.tokenizer().decode(tokens)))


def test_the_end_is_allowed_only_where_the_text_is_whole(artifact: Artifact, grammars: Grammars) -> None:
    constraint = compiled(grammars, {"const": True})
    stops = list(artifact.manifest.stop_tokens)
    assert not constraint.allowed()[stops].any()
    (token,) = artifact.tokenizer().encode_raw("true")
    constraint.accept(token)
    assert np.flatnonzero(constraint.allowed()).tolist() == stops


def test_a_token_outside_the_grammar_is_an_error(grammars: Grammars, artifact: Artifact) -> None:
    (token,) = artifact.tokenizer().encode_raw("false")
    with pytest.raises(RuntimeError):
        compiled(grammars, {"const": True}).accept(token)


def test_one_of_several_forms(grammars: Grammars, artifact: Artifact) -> None:
    said = {
        artifact.tokenizer().decode(
            walk(compiled(grammars, {"const": "a"}, {"const": 1}), seed, set(artifact.manifest.stop_tokens))
        )
        for seed in range(20)
    }
    assert said == {'"a"', "1"}


def nested(depth: int) -> dict[str, Any]:
    return {"items": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"not": {"type": "string"}}, "no grammar holds 'not' at '/'"),
        ({"properties": {"a/b": {"items": {"not": {}}}}}, "no grammar holds 'not' at '/properties/a~1b/items'"),
        ({"anyOf": [{}, {"if": {}, "then": {}}]}, "no grammar holds 'if' at '/anyOf/1', 'then' at '/anyOf/1'"),
        ({"type": "array", "uniqueItems": True}, "no grammar holds 'uniqueItems' at '/'"),
        ({"type": "foo"}, "Invalid type: foo"),
        ({"oneOf": 7}, "is no JSON Schema"),
        ({"allOf": 7}, "allOf"),
        ({"properties": {"a": {}}, "required": [[]]}, "required"),
        ({"properties": {"a": {}}, "minProperties": "a"}, "minProperties"),
        ({"oneOf": [{"$ref": "https://example.com/a"}]}, "https://example.com/a"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"$ref": "#/nowhere"}, "does not exist"),
        ({"type": "integer", "minimum": 3, "maximum": 1}, "Unsatisfiable"),
        ({"enum": ["x" * MAX_SCHEMA]}, "larger than 128 KiB"),
        (nested(100), "nested deeper than 64 levels"),
        ({"properties": {f"k{place}": {} for place in range(5000)}}, "more than 400 names"),
    ],
)
def test_what_cannot_be_held_is_refused_with_the_reason(grammars: Grammars, schema: dict[str, Any], said: str) -> None:
    with pytest.raises(BadParameter) as caught:
        compiled(grammars, schema)
    assert said in str(caught.value)
    assert caught.value.path == "/x"
    assert "\n" not in str(caught.value)
    assert "form0" not in str(caught.value)


def test_the_schema_that_cannot_be_held_is_named_among_several(grammars: Grammars) -> None:
    rules = [json_rule({"type": "object"}, "/response_format"), json_rule({"not": {}}, "/tools", of="weather")]
    with pytest.raises(
        BadParameter, match="'/tools' can't be compiled: no grammar holds 'not' at '/', in the parameters of weather"
    ):
        grammars.compile(rules)


PET = {"properties": {"kind": {"const": "cat"}}, "required": ["kind"]}
NAMED: dict[str, Any] = {"properties": {"name": {"enum": ["a", "b"]}}}


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        (PET, {"kind"}),
        ({**PET, "minProperties": 1}, {"kind"}),
        ({"allOf": [{"$ref": "#/$defs/pet"}], "$defs": {"pet": PET}}, {"kind"}),
        ({"anyOf": [PET, {"type": "boolean"}]}, {"kind"}),
        ({"type": "object", "properties": {"required": {"const": 1}}, "required": ["required"]}, {"required"}),
    ],
)
def test_an_object_gets_no_names_beyond_its_own(
    grammars: Grammars, artifact: Artifact, schema: dict[str, Any], names: set[str]
) -> None:
    for seed in range(8):
        tokens = walk(compiled(grammars, {**schema, "type": "object"}), seed, set(artifact.manifest.stop_tokens))
        value = json.loads(artifact.tokenizer().decode(tokens))
        assert value.keys() == names
        Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize(
    "schema",
    [
        {**PET, "additionalProperties": True},
        {**PET, "additionalProperties": {"type": "boolean"}, "minProperties": 2},
        {"properties": {"a": {}}, "required": ["kind"]},
        {**PET, "minProperties": 2},
        {"allOf": [PET, {**NAMED, "required": ["name"]}]},
        {**NAMED, "required": ["kind", "name"], "anyOf": [PET]},
        {**NAMED, "required": ["name"], "$ref": "#/$defs/pet", "$defs": {"pet": PET}},
        {"properties": {}},
    ],
)
def test_an_object_stays_open_where_others_may_name_more(schema: dict[str, Any]) -> None:
    told = json.loads(json_rule(schema, "/x").text.removeprefix("%json "))
    for each in (told, *told.get("$defs", {}).values(), *told.get("allOf", ()), *told.get("anyOf", ())):
        assert each.get("additionalProperties") is not False


def test_one_of_is_any_of_until_the_answer_is_checked(grammars: Grammars, artifact: Artifact) -> None:
    schema = {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 5}, {"enum": [3, 9]}]}
    said = {
        json.loads(
            artifact.tokenizer().decode(walk(compiled(grammars, schema), seed, set(artifact.manifest.stop_tokens)))
        )
        for seed in range(30)
    }
    assert {3, 9} < said
    for value in said - {3}:
        check(schema, value)
    with pytest.raises(JsonUnmet, match="not of the schema's oneOf at '/'"):
        check(schema, 3)


def test_what_asks_for_nothing_is_passed_over(grammars: Grammars) -> None:
    assert compiled(grammars, {"type": "array", "uniqueItems": False}).allowed().any()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "(a|b)*a(a|b){40}"},
        {"type": "string", "pattern": "(a{1,30000}){1,3000}"},
        {"enum": [f"v{place}" for place in range(10_000)]},
        {"properties": {f"k{place}": {"type": "integer"} for place in range(400)}, "type": "object"},
        {"allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{place}}}"} for place in range(2, 14)]},
        {"type": "array", "items": {"type": "integer"}, "minItems": 100_000},
    ],
    ids=["automaton", "repetition", "enum", "names", "intersection", "items"],
)
def test_hostile_schemas_are_compiled_within_bounds_or_refused(grammars: Grammars, schema: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    try:
        constraint = compiled(grammars, schema)
    except BadParameter:
        return
    for _ in range(50):
        constraint.accept(int(random.choice(np.flatnonzero(constraint.allowed()))))
