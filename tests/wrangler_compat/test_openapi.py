"""The document is valid, tells of every route, and what it says is what the doors do: schemathesis's cases agree.

They run over a tiny checkpoint, which answers for the seed card in no time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from catalog import Catalog, ModelCard, parse_card
from catalog.shape import shape_of
from runtime.artifacts import ArtifactStore
from runtime.pool import Pool
from runtime.pull_model import Wanted, pull_from
from runtime.tasks import TASKS
from tests.models.checkpoint import write_checkpoint
from tests.worker.asking import MODEL
from tests.worker.live import live
from worker import AI
from wrangler_compat.app import create_app
from wrangler_compat.openapi import describe_doors
from wrangler_compat.openapi.operations import LEFT_OUT, OPERATIONS

EXAMPLES = 12
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LISTENING = """---
model:
  id: "1"
  source: 1
  name: "@cf/example/listener"
  description: "Performs a task that roost can't run"
  task: {id: "2", name: "Sorcery", description: ""}
  properties: []
json_schema:
  input: '{"type": "object", "properties": {"spell": {"type": "string"}}, "required": ["spell"]}'
  output: '{"type": "object"}'
---
"""
BROKEN = LISTENING.replace("listener", "broken").replace('"type": "string"', '"type": 7')


def cards() -> Catalog:
    """The seed card, one more for every way of answering that cards promise, and two that are odd."""
    shipped = Catalog.load()
    chosen: dict[object, ModelCard] = {"seed": shipped[MODEL]}
    for card in sorted(shipped, key=lambda card: card.name):
        if card.task.name == "Text Generation" and card.name != MODEL:
            chosen.setdefault(tuple(shape_of(card, {name: ""}) for name in ("prompt", "messages", "input")), card)
    chosen |= {number: parse_card(text) for number, text in enumerate((LISTENING, BROKEN))}
    return Catalog({card.name: card for card in chosen.values()})


def document(catalog: Catalog, **options: Any) -> dict[str, Any]:
    return describe_doors(create_app(AI(catalog=catalog)).routes, catalog, "http://127.0.0.1:8790", **options)


def labels() -> list[tuple[str, str]]:
    paths = document(cards())["paths"]
    return [(path, method) for path in sorted(paths) for method in paths[path] if method in ("get", "post")]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    checkpoint, catalog = write_checkpoint(tmp_path_factory.mktemp("weights") / "Tiny"), cards()
    for card in catalog:
        if card.task.name in TASKS:
            pull_from(store, Wanted(card.name), checkpoint)
    with live(create_app(AI(catalog=catalog, pool=Pool(store, device="cpu")))) as address:
        yield address


@pytest.fixture(scope="module")
def described(url: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{url}/cdn-cgi/local/openapi.json")


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("catalog", [cards(), Catalog.load()], ids=["few", "shipped"])
def test_the_document_is_valid(catalog: Catalog, token: bool) -> None:
    errors = OpenAPIV31SpecValidator(document(catalog, token=token)).iter_errors()
    assert [f"{list(error.absolute_path)}: {error.message}" for error in errors] == []


def test_a_token_is_asked_for_where_one_is_set() -> None:
    assert document(cards(), token=True)["security"] == [{"token": []}]
    assert "security" not in document(cards())


def test_every_model_is_a_path_with_its_cards_own_schema() -> None:
    catalog = Catalog.load()
    paths = document(catalog)["paths"]
    for card in catalog:
        posted = paths[f"/client/v4/accounts/{{account}}/ai/run/{card.name}"]["post"]
        assert posted["requestBody"]["content"]["application/json"]["schema"]
    taken = paths[f"/client/v4/accounts/{{account}}/ai/run/{MODEL}"]["post"]["requestBody"]["content"]
    assert taken["application/json"]["schema"] == catalog[MODEL].input_schema


def test_a_model_that_cannot_run_has_no_answer_but_501() -> None:
    told = document(cards())["paths"]["/client/v4/accounts/{account}/ai/run/@cf/example/listener"]["post"]["responses"]
    assert "200" not in told
    assert "501" in told


def test_every_route_is_described_or_left_out_on_purpose() -> None:
    catalog = cards()
    app, paths = create_app(AI(catalog=catalog)), document(catalog)["paths"]
    silent = {route.path for route in app.routes if isinstance(route, Route)} - {
        route.path
        for route in app.routes
        if isinstance(route, Route) and re.sub(r":\w+}", "}", route.path).rstrip("/") in paths
    }
    unexplained = [path for path in silent if not any(path.startswith(start) for start in LEFT_OUT if start != "/")]
    assert unexplained == ["/"]
    of_the_api = {path for path in silent if path.startswith("/client/v4/accounts/{account}/ai/")}
    assert of_the_api == {path for path in LEFT_OUT if "/ai/run/" in path}


def test_nothing_is_described_that_is_not_there() -> None:
    paths = document(cards())["paths"]
    assert [key for key in OPERATIONS if key[1] not in paths.get(key[0], {})] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), labels(), ids=lambda part: part.rpartition("/ai/")[2])
def test_the_doors_do_what_the_document_says(
    url: str, described: schemathesis.BaseSchema, path: str, method: str, mode: GenerationMode
) -> None:
    operation = described[path][method]
    takes_nothing = "{" not in path and "parameters" not in operation.definition.raw
    if mode is GenerationMode.NEGATIVE and takes_nothing and "requestBody" not in operation.definition.raw:
        return  # there is no way to ask it wrongly

    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def agree(case: Case[Any]) -> None:
        answer = case.call(base_url=url, timeout=60)
        assert answer.status_code != 500
        case.validate_response(answer, checks=CHECKS)

    agree()


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
def test_the_openai_doors_answer_as_the_document_says(url: str, described: schemathesis.BaseSchema, path: str) -> None:
    """Generated messages are refused for their roles more often than not; these are answered."""
    bodies: dict[str, dict[str, Any]] = {
        "chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
        "completions": {"prompt": "Hi"},
        "responses": {"input": "Hi"},
    }
    at = f"/client/v4/accounts/{{account}}/ai/v1/{path}"
    for extra in ({}, {"stream": True}):
        body = {"model": MODEL, "max_tokens": 4, **bodies[path], **extra}
        case = described[at]["post"].Case(
            path_parameters={"account": "local"}, body=body, media_type="application/json"
        )
        answer = case.call(base_url=url, timeout=60)
        assert answer.status_code == 200
        case.validate_response(answer, checks=CHECKS)


def test_the_document_names_the_address_it_was_asked_at(url: str) -> None:
    assert httpx.get(f"{url}/cdn-cgi/local/openapi.json").json()["servers"] == [{"url": url}]
