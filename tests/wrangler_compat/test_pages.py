"""The pages over HTTP: their twins, their policy, untrusted cards, the counts of facets, who may see them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from catalog import Catalog, ModelCard, parse_card
from tests.worker.asking import GREEDY, MODEL
from tests.worker.live import live
from tests.wrangler_compat.browser import browser, needs_browser
from worker import AI
from worker.guard import PAGE_COOKIE
from wrangler_compat.app import create_app
from wrangler_compat.pages.facets import FACETS, Browse
from wrangler_compat.pages.form import modes
from wrangler_compat.pages.snippets import example

LIST, STATUS = "/cdn-cgi/local/models", "/cdn-cgi/local/status"
PAGES = [LIST, f"{LIST}/{MODEL}", f"/cdn-cgi/local/playground/{MODEL}", STATUS]
TOKEN = "a secret"
ATTACK = "\"'><img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>{{ 7 * 7 }}</code>"
HTML = {"accept": "text/html"}
CATALOG = Catalog.load()


class Tags(HTMLParser):
    """What a page loads and runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.inline += [f"{tag} {name}" for name in given if name.startswith("on") or name == "style"]
        if tag in ("script", "link", "img"):
            self.sources.append(given.get("src") or given.get("href") or f"inline {tag}")
        if tag == "style":
            self.inline.append(tag)


def attacking() -> str:
    schema = {
        "type": "object",
        "properties": {
            "prompt": {"type": "string", "description": ATTACK, "default": ATTACK},
            ATTACK: {"type": "string", "enum": [ATTACK, "b"], "description": ATTACK},
            "tools": {"type": "array", "items": {"type": "object", "properties": {ATTACK: {"pattern": ATTACK}}}},
        },
        "required": ["prompt"],
    }
    properties = [{"property_id": ATTACK, "value": ATTACK}, {"property_id": "info", "value": f"https://{ATTACK}"}]
    model = {
        "id": ATTACK,
        "source": 1,
        "name": "@cf/a\"'b/<img>?#%2F{{7*7}}onerror=alert(1)",
        "description": ATTACK,
        "task": {"id": "1", "name": "Text Generation", "description": ATTACK},
        "properties": properties,
        "created_at": ATTACK,
    }
    return json.dumps({**model, "schema": {"input": schema, "output": {"type": "object", "title": ATTACK}}})


@pytest.fixture(scope="module")
def attacked() -> Iterator[str]:
    """A roost with a card that means harm."""
    card = parse_card(attacking(), ".json")
    with live(create_app(AI(catalog=Catalog({card.name: card})))) as url:
        yield url


def names_of(url: str) -> list[str]:
    return [model["name"] for model in httpx.get(f"{url}{LIST}.json").json()["models"]]


@pytest.mark.parametrize("path", ["/", "/cdn-cgi/local/", "/cdn-cgi/local"])
def test_a_browser_is_led_to_the_models(http: httpx.Client, path: str) -> None:
    answer = http.get(path, headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, LIST)


def test_the_root_is_a_page_for_those_who_look_alone(http: httpx.Client) -> None:
    assert http.post("/").status_code == 404
    assert http.get("/", headers={"mf-url": "http://elsewhere.example/run"}).status_code == 501


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_a_twin_of_the_same_data(http: httpx.Client, path: str) -> None:
    shown = http.get(path)
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert re.search(rf'href="{re.escape(path)}\.json"', shown.text)
    twin = http.get(f"{path}.json").json()
    for key in ("name", "count", "version"):
        if key in twin:
            assert str(twin[key]) in shown.text


@pytest.mark.parametrize("path", [*PAGES, f"{LIST}/@cf/no/such"])
def test_nothing_is_inline_and_nothing_comes_from_elsewhere(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in answer.headers["content-security-policy"]
    tags = Tags(answer.text)
    assert tags.inline == []
    assert {source.startswith("/cdn-cgi/local/static/") for source in tags.sources} == {True}
    for source in tags.sources:
        assert http.get(source).status_code == 200


def test_an_unknown_model_is_404_with_what_was_perhaps_meant(http: httpx.Client) -> None:
    wrong = MODEL.replace("starling", "starlin")
    answer = http.get(f"{LIST}/{wrong}")
    assert answer.status_code == 404
    assert MODEL in answer.text
    twin = http.get(f"{LIST}/{wrong}.json")
    assert (twin.status_code, twin.json()["errors"][0]["code"]) == (404, 5007)


def test_every_card_has_its_pages(http: httpx.Client) -> None:
    for card in CATALOG:
        for path in (f"{LIST}/{card.name}", f"/cdn-cgi/local/playground/{card.name}"):
            answer = http.get(path)
            assert answer.status_code == 200, path
            assert card.display_name in answer.text
            assert http.get(f"{path}.json").json()["name"] == card.name


def test_every_parameter_of_a_form_is_one_of_the_schema() -> None:
    for card in CATALOG:
        for mode in modes(card):
            assert {field.name for field in mode.fields} <= card.inputs.names


def test_the_form_has_the_ranges_and_defaults_of_the_schema(http: httpx.Client) -> None:
    text = http.get(f"/cdn-cgi/local/playground/{MODEL}").text
    box = re.search(r'<input type="number" id="prompt-temperature"[^>]*>', text)
    assert box is not None
    assert 'min="0"' in box[0]
    assert 'max="5"' in box[0]
    box = re.search(r'<input type="number" id="chat-max_tokens"[^>]*>', text)
    assert box is not None
    assert 'placeholder="256"' in box[0]


def test_text_that_may_be_a_list_is_typed_as_text() -> None:
    (mode, *_) = modes(CATALOG["@cf/baai/bge-base-en-v1.5"])
    assert [field.kind for field in mode.fields if field.name == "text"] == ["loose"]


def test_a_number_that_may_be_null_is_typed_as_a_number() -> None:
    (chat, *_) = modes(CATALOG["@cf/zai-org/glm-5.2"])
    (field,) = [field for field in chat.fields if field.name == "temperature"]
    assert (field.kind, field.hint) == ("number", "0 to 2")


@pytest.mark.parametrize("card", [card for card in CATALOG if card.input_schema], ids=lambda card: card.name)
def test_the_example_is_what_the_card_takes(card: ModelCard) -> None:
    taken = card.validate_inputs(example(card))
    assert taken or not example(card)


@given(st.data())
def test_a_facet_promises_what_its_choice_leaves(data: st.DataObject) -> None:
    cards = list(CATALOG)
    values = {facet.name: sorted({facet.read(card) for card in cards}) for facet in FACETS}
    pairs = [(name, value) for name, found in values.items() for value in found]
    chosen = data.draw(st.lists(st.sampled_from(pairs), max_size=4, unique=True))
    words = data.draw(st.sampled_from(["", "llama", "7b instruct", "zzz"]))
    browse = Browse.of(QueryParams([*chosen, ("q", words)]))
    for facet in browse.counts(cards):
        beside = [(name, value) for name, value in chosen if name != facet["name"]]
        for choice in facet["values"]:
            alone = Browse.of(QueryParams([*beside, (facet["name"], choice["value"]), ("q", words)]))
            assert choice["count"] == len(alone.find(cards))
            assert choice["chosen"] == ((facet["name"], choice["value"]) in chosen)


@pytest.mark.parametrize("query", ["?q=%00%ff", "?task=a&task=b", "?beta=maybe", "?q=" + "a" * 3000, "?nothing=1"])
def test_any_query_of_the_list_is_answered(http: httpx.Client, query: str) -> None:
    assert http.get(LIST + query).status_code == 200
    assert http.get(f"{LIST}.json{query}").status_code == 200


def test_what_a_card_says_is_text(attacked: str) -> None:
    (name,) = names_of(attacked)
    for path in (LIST, f"{LIST}/{name}", f"/cdn-cgi/local/playground/{name}"):
        text = httpx.get(f"{attacked}{quote(path, safe='/@')}").text
        assert "<img src=x" not in text
        assert "{{ 7 * 7 }}" in text
        assert Tags(text).inline == []
        assert "inline script" not in Tags(text).sources


@needs_browser
def test_a_card_that_means_harm_does_none(attacked: str) -> None:
    (name,) = names_of(attacked)
    with browser(attacked) as window:
        for path in (LIST, f"{LIST}/{name}", f"/cdn-cgi/local/playground/{name}"):
            window.open(quote(path, safe="/@"))
            assert "pwned" not in window.driver.title
            assert window.all("[onerror], img[src='x'], script:not([src])") == []


@pytest.fixture(scope="module")
def guarded() -> Iterator[httpx.Client]:
    """A roost that asks for a token."""
    with live(create_app(AI(), token=TOKEN)) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.mark.parametrize("path", ["/", *PAGES])
def test_without_the_token_a_browser_is_led_to_the_entrance(guarded: httpx.Client, path: str) -> None:
    answer = guarded.get(path, headers=HTML)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/cdn-cgi/local/enter?next=")
    assert guarded.get(path).status_code == 401


def enter(guarded: httpx.Client, **more: Any) -> httpx.Response:
    return guarded.post("/cdn-cgi/local/enter", data={"token": TOKEN, "next": STATUS}, **more)


def test_the_token_opens_the_pages_and_the_doors_to_this_browser(guarded: httpx.Client) -> None:
    answer = enter(guarded)
    assert (answer.status_code, answer.headers["location"]) == (303, STATUS)
    cookie = answer.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    jar = {"cookie": f"{PAGE_COOKIE}={guarded.cookies[PAGE_COOKIE]}"}
    guarded.cookies.clear()
    assert guarded.get(STATUS, headers={**HTML, **jar}).status_code == 200
    asked = guarded.get("/client/v4/accounts/a/ai/models/search", headers=jar)
    assert asked.status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost:1", "https://example.com", "null"])
def test_the_cookie_is_of_no_use_to_a_page_of_another_origin(guarded: httpx.Client, origin: str) -> None:
    key = enter(guarded).cookies[PAGE_COOKIE]
    guarded.cookies.clear()
    headers = {"cookie": f"{PAGE_COOKIE}={key}", "origin": origin}
    refused = 401 if "localhost" in origin else 403
    assert guarded.get(STATUS, headers=headers).status_code == refused
    assert guarded.post("/run", headers=headers).status_code == refused


def test_a_page_of_another_origin_cannot_enter(guarded: httpx.Client) -> None:
    assert enter(guarded, headers={"origin": "http://localhost:1"}).status_code == 401


@pytest.mark.parametrize("token", ["", "wrong", "\ud800", "a" * 9000])
def test_a_wrong_token_opens_nothing(guarded: httpx.Client, token: str) -> None:
    body = f"token={token}".encode("utf-8", "surrogatepass")
    answer = guarded.post("/cdn-cgi/local/enter", content=body)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", ""])
def test_the_entrance_leads_nowhere_else(guarded: httpx.Client, target: str) -> None:
    answer = guarded.post("/cdn-cgi/local/enter", data={"token": TOKEN, "next": target})
    assert answer.headers["location"] == LIST


@pytest.mark.weights
def test_the_last_requests_are_told_without_what_was_said(http: httpx.Client, rest: httpx.Client) -> None:
    rest.post(f"/run/{MODEL}", json={**GREEDY, "prompt": "A secret word: xyzzy"})
    rest.post(f"/run/{MODEL}", json={"prompt": "xyzzy", "temperature": 9})
    rest.post("/run/@cf/no/such", json={"prompt": "xyzzy"})
    rest.post(f"/run/{MODEL}", json={**GREEDY, "stream": True})
    told = http.get(f"{STATUS}.json")
    assert "xyzzy" not in told.text
    streamed, unknown, refused, whole = told.json()["recent"][:4]
    assert (streamed["outcome"], streamed["streaming"], streamed["completion_tokens"]) == ("done", True, 8)
    assert (unknown["outcome"], unknown["code"], unknown["weights"]) == ("failed", 5007, None)
    assert (refused["outcome"], refused["code"]) == ("failed", 5006)
    assert (whole["outcome"], whole["streaming"], whole["stand_in"]) == ("done", False, True)
    assert 0 < whole["first"] <= whole["took"]
    assert whole["tokens_per_second"] > 0


def test_no_more_than_the_last_hundred_are_kept() -> None:
    with live(create_app(AI())) as url, httpx.Client(base_url=url) as client:
        for number in range(120):
            client.post(f"/client/v4/accounts/a/ai/run/@cf/no/such-{number}", json={})
        recent = client.get(f"{STATUS}.json").json()["recent"]
    assert [row["model"] for row in recent] == [f"@cf/no/such-{number}" for number in range(119, 19, -1)]
