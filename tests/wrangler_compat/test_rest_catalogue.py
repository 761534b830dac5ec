"""The REST door's catalogue: searched, paged, and each model's schema given back."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from catalog import Catalog, Query
from tests.worker.asking import MODEL
from tests.worker.live import live
from worker import AI
from wrangler_compat.app import create_app

CARD = Catalog.load()[MODEL]
ROW = {"id", "source", "name", "description", "task", "tags", "properties"}


@pytest.fixture(scope="module")
def rest() -> Iterator[httpx.Client]:
    """A client of a roost with one card."""
    yield from asking(Catalog({MODEL: CARD}))


@pytest.fixture(scope="module")
def whole() -> Iterator[httpx.Client]:
    """A client of a roost with the shipped catalogue."""
    yield from asking(Catalog.load())


def asking(catalog: Catalog) -> Iterator[httpx.Client]:
    with (
        live(create_app(AI(catalog=catalog))) as url,
        httpx.Client(base_url=f"{url}/client/v4/accounts/any/ai", timeout=60) as client,
    ):
        yield client


def search(rest: httpx.Client, **params: Any) -> dict[str, Any]:
    body = rest.get("/models/search", params=params).raise_for_status().json()
    assert (body["success"], body["errors"], body["messages"]) == (True, [], [])
    assert body["result_info"]["count"] == len(body["result"])
    return dict(body)


def test_a_model_is_listed_with_its_task_and_properties(rest: httpx.Client) -> None:
    (model,) = search(rest, search="starling")["result"]
    assert model == {
        "id": CARD.id,
        "source": 2,
        "name": MODEL,
        "description": CARD.description,
        "task": {"id": CARD.task.id, "name": "Text Generation", "description": CARD.task.description},
        "tags": [],
        "properties": [{"property_id": entry.property_id, "value": entry.value} for entry in CARD.properties],
    }


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, 1),
        ({"search": "STARLING"}, 1),
        ({"search": "reinforcement learning"}, 1),
        ({"search": "no such words"}, 0),
        ({"task": "Text Generation"}, 1),
        ({"task": "Translation"}, 0),
        ({"author": "Nexusflow"}, 1),
        ({"author": "nobody"}, 0),
        ({"source": "2"}, 1),
        ({"source": "2.0"}, 1),
        ({"source": "1"}, 0),
        ({"hide_experimental": "true"}, 0),
        ({"hide_experimental": "false"}, 1),
        ({"search": "", "task": "", "page": ""}, 1),
        ({"format": "openrouter", "include_deprecated": "true", "unknown": "x"}, 1),
    ],
)
def test_a_filter_that_is_given_narrows_the_search(rest: httpx.Client, params: dict[str, str], found: int) -> None:
    body = search(rest, **params)
    assert len(body["result"]) == found
    assert body["result_info"] == {"page": 1, "per_page": 50, "count": found, "total_count": found}


@pytest.mark.parametrize("page", [2, 3, 10**20])
def test_a_page_past_the_end_is_empty_so_that_clients_stop(rest: httpx.Client, page: int) -> None:
    body = search(rest, page=page, per_page=1)
    assert body["result"] == []
    assert body["result_info"] == {"page": page, "per_page": 1, "count": 0, "total_count": 1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page", "0"),
        ("page", "-1"),
        ("page", "one"),
        ("per_page", "0"),
        ("source", "hf"),
        ("hide_experimental", "perhaps"),
    ],
)
def test_a_bad_parameter_is_named(rest: httpx.Client, name: str, value: str) -> None:
    answer = rest.get("/models/search", params={name: value})
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["code"]) == (400, 5006)
    assert error["message"].startswith(f"AiError: Bad input: Error: '/{name}' ")


def test_a_models_schema_is_the_cards(rest: httpx.Client) -> None:
    body = rest.get("/models/schema", params={"model": MODEL}).raise_for_status().json()
    assert body["result"] == {"input": CARD.input_schema, "output": CARD.output_schema}


@pytest.mark.parametrize("params", [{}, {"model": ""}, {"model": "@cf/no/such"}])
def test_the_schema_of_an_unknown_model_is_refused(rest: httpx.Client, params: dict[str, str]) -> None:
    answer = rest.get("/models/schema", params=params)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == 5007


def test_tasks_and_authors_are_listed(rest: httpx.Client) -> None:
    assert rest.get("/tasks/search").json()["result"] == [CARD.task.model_dump()]
    assert rest.get("/authors/search").json()["result"] == [{"name": "nexusflow"}]


def test_a_deprecated_model_is_listed_if_it_is_asked_for() -> None:
    catalog = Catalog({MODEL: CARD.model_copy(update={"deprecated": True})})
    assert catalog.search(Query()).total == 0
    assert catalog.search(Query(include_deprecated=True)).total == 1


def test_every_shipped_model_is_a_row_of_one_of_the_pages(whole: httpx.Client) -> None:
    rows = [row for page in (1, 2, 3) for row in search(whole, page=page)["result"]]
    assert [row["name"] for row in rows] == sorted(Catalog.load().cards)
    for row in rows:
        assert row.keys() - {"created_at"} == ROW
        assert row["task"].keys() == {"id", "name", "description"}
        assert all(entry.keys() == {"property_id", "value"} for entry in row["properties"])


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"search": "llama-3.3"}, ["@cf/meta/llama-3.3-70b-instruct-fp8-fast"]),
        ({"task": "Summarization"}, ["@cf/facebook/bart-large-cnn"]),
        ({"author": "unum"}, ["@cf/unum/uform-gen2-qwen-500m"]),
        ({"author": "unum", "hide_experimental": "true"}, []),
    ],
)
def test_the_shipped_catalogue_is_searched(whole: httpx.Client, params: dict[str, str], names: list[str]) -> None:
    assert [row["name"] for row in search(whole, **params)["result"]] == names


def test_the_shipped_tasks_and_authors_are_listed(whole: httpx.Client) -> None:
    tasks = whole.get("/tasks/search").json()["result"]
    assert [task["name"] for task in tasks] == sorted({card.task.name for card in Catalog.load()})
    assert {"name": "meta"} in whole.get("/authors/search").json()["result"]
