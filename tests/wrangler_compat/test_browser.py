"""The pages in a real browser: search and facets, the playground, the status, by mouse and by keyboard alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from tests.worker.asking import FAR_BELOW, MODEL
from tests.worker.live import computing_at, idle_at, live
from tests.wrangler_compat.browser import DESKTOP, PHONE, Browser, Scheme, browser, needs_axe, needs_browser
from worker import AI
from wrangler_compat.app import create_app

pytestmark = [pytest.mark.weights, needs_browser, pytest.mark.timeout(240)]

LIST, STATUS = "/cdn-cgi/local/models", "/cdn-cgi/local/status"
PAGE, PLAYGROUND = f"{LIST}/{MODEL}", f"/cdn-cgi/local/playground/{MODEL}"
PAGES = [LIST, PAGE, PLAYGROUND, STATUS, f"{LIST}/@cf/no/such"]
RUN = f"/client/v4/accounts/local/ai/run/{MODEL}"
TOKEN = "a secret"


_SHOWS_FOCUS = """
const it = arguments[0];
const around = [it, it.nextElementSibling ?? it, it.closest(".card") ?? it];
return around.some((one) => getComputedStyle(one).outlineStyle !== "none");
"""


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """Over a roost of its own: other tests count what theirs was asked."""
    with live(create_app(AI())) as url:
        httpx.post(f"{url}{RUN}", json={"prompt": "a", "max_tokens": 1}, timeout=60).raise_for_status()  # loads weights
        with browser(url) as opened:
            yield opened


def found(window: Browser) -> list[str]:
    return window.texts(".card h3")


def counted(window: Browser) -> int:
    return int(window.texts("#count")[0].split()[0])


def choice(name: str, value: str) -> str:
    return f'input[name="{name}"][value="{value}"]'


def put(window: Browser, name: str, value: str, mode: str = "chat") -> None:
    box = window.find(f"#{mode}-{name}")
    box.clear()
    box.send_keys(value)


def ask(window: Browser, message: str) -> None:
    window.find("#message").send_keys(message)
    window.find("#send").click()


def settled(window: Browser) -> None:
    window.wait(lambda: window.find("#send").is_enabled())


def numbers(window: Browser) -> dict[str, str]:
    return dict(zip(window.texts("#numbers dt"), window.texts("#numbers dd"), strict=True))


def test_the_root_leads_to_the_models(window: Browser) -> None:
    window.open("/")
    assert window.driver.current_url == window.url + LIST
    assert counted(window) == len(found(window)) > 0


def test_the_list_follows_what_is_typed_and_the_address_follows_the_list(window: Browser) -> None:
    window.open(LIST)
    total = counted(window)
    window.find("#q").send_keys("starling")
    window.wait(lambda: counted(window) == 1)
    assert total > 1
    assert "starling-lm-7b-beta" in found(window)[0]
    assert window.driver.current_url == f"{window.url}{LIST}?q=starling"
    window.driver.refresh()
    assert counted(window) == 1
    assert window.find("#q").get_attribute("value") == "starling"


def test_a_facet_leaves_as_many_as_it_promised(window: Browser) -> None:
    window.open(LIST)
    box = window.find(choice("task", "Text Generation"))
    promised = int(window.run("return arguments[0].parentElement.querySelector('.count').innerText", box))
    total = counted(window)
    box.click()
    window.wait(lambda: counted(window) != total)
    assert counted(window) == promised
    assert "task=Text+Generation" in window.driver.current_url
    window.find(choice("runs", "yes")).click()
    window.wait(lambda: "runs=yes" in window.driver.current_url)
    window.driver.refresh()
    assert window.find(choice("task", "Text Generation")).is_selected()
    assert window.find(choice("runs", "yes")).is_selected()


def test_the_list_works_without_javascript(window: Browser) -> None:
    window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        window.open(LIST)
        window.find("#q").send_keys("starling")
        window.find(choice("runs", "yes")).click()
        window.find("#browse [type=submit]").click()
        window.wait(lambda: window.driver.current_url == f"{window.url}{LIST}?q=starling&runs=yes")
    finally:
        window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert counted(window) == 1


def test_a_model_is_found_asked_and_stopped_by_the_keyboard_alone(window: Browser) -> None:
    window.open(LIST)
    window.press(Keys.TAB)
    assert window.driver.switch_to.active_element.text == "Skip to content"
    window.press(Keys.ENTER)
    window.tab_to("#q").send_keys("starling")
    window.wait(lambda: counted(window) == 1)
    window.tab_to(".card h3 a").send_keys(Keys.ENTER)
    window.wait(lambda: window.driver.current_url == window.url + PAGE)
    window.tab_to("a.button").send_keys(Keys.ENTER)
    window.wait(lambda: window.driver.current_url == window.url + PLAYGROUND)
    window.tab_to("#message").send_keys("Go on.")
    for name, value in (("max_tokens", "3000"), ("temperature", "5"), ("seed", "1")):
        window.tab_to(f"#chat-{name}").send_keys(value)
    window.press(Keys.CONTROL, Keys.ENTER)
    computing_at(window.url)
    window.press(Keys.ESCAPE)
    idle_at(window.url)
    settled(window)


@pytest.mark.parametrize("path", PAGES[:4])
def test_whatever_has_the_focus_shows_it(window: Browser, path: str) -> None:
    window.open(path)
    for _ in range(25):
        window.press(Keys.TAB)
        focused = window.driver.switch_to.active_element
        if focused.tag_name == "body":  # the end of the page, and of the round
            break
        seen = window.run(_SHOWS_FOCUS, focused)
        assert seen, focused.get_attribute("outerHTML")


def test_tokens_come_one_by_one_and_are_counted(window: Browser) -> None:
    window.open(PLAYGROUND)
    put(window, "max_tokens", "200")
    put(window, "temperature", "5")
    put(window, "seed", "1")
    window.run(
        "window.seen = new Set();"
        "new MutationObserver(() => window.seen.add(document.querySelector('.turn.assistant .words')?.textContent))"
        ".observe(document.querySelector('#turns'), {subtree: true, childList: true, characterData: true});"
    )
    ask(window, "Go on.")
    settled(window)
    assert window.run("return window.seen.size") > 20
    told = numbers(window)
    assert told["Tokens written"] == "200"
    assert float(told["Tokens/s"]) > 0
    assert window.find("#spoken").get_attribute("aria-live") == "polite"
    assert "".join(window.texts("#spoken")).strip()
    assert window.find("#said").get_attribute("textContent") == "The answer is complete."


def test_a_chat_remembers_and_can_begin_anew(window: Browser) -> None:
    window.open(PLAYGROUND)
    put(window, "max_tokens", "12")
    for turns in (2, 4):
        ask(window, "Say something.")
        settled(window)
        assert len(window.all(".turn")) == turns
    code = window.find(".snippet:not([hidden]) code").get_attribute("textContent") or ""
    assert code.count('"role":"assistant"') == 1  # the last question, as it was asked
    assert code.count('"role":"user"') == 2
    window.find("#clear").click()
    assert window.all(".turn") == []
    assert '"assistant"' not in (window.find(".snippet:not([hidden]) code").get_attribute("textContent") or "")


def test_a_stop_stops_the_computing(window: Browser) -> None:
    window.open(PLAYGROUND)
    before = idle_at(window.url)["generated_tokens"]
    put(window, "max_tokens", "3000")
    put(window, "temperature", "5")
    put(window, "seed", "1")
    ask(window, "Go on.")
    computing_at(window.url, before + 5)
    window.find("#stop").click()
    row = idle_at(window.url)
    assert (row["running"], row["waiting"]) == (0, 0)
    assert row["generated_tokens"] - before < FAR_BELOW
    settled(window)
    assert window.find("#said").get_attribute("textContent") == "Stopped."
    (last, *_) = httpx.get(f"{window.url}{STATUS}.json").json()["recent"]
    assert last["outcome"] == "left"


def test_a_prompt_is_answered_whole_where_no_stream_is_wanted(window: Browser) -> None:
    window.open(PLAYGROUND)
    window.find("[name=mode][value=prompt]").click()
    put(window, "prompt", "Count to five.", "prompt")
    put(window, "max_tokens", "8", "prompt")
    window.find("#stream").click()
    window.find("#send").click()
    settled(window)
    assert window.find("#answer").text
    (last, *_) = httpx.get(f"{window.url}{STATUS}.json").json()["recent"]
    assert (last["outcome"], last["streaming"]) == ("done", False)
    assert numbers(window)["Tokens written"] == str(last["completion_tokens"])
    assert 0 < last["completion_tokens"] <= 8


def test_a_refusal_is_in_the_platforms_words(window: Browser) -> None:
    window.open(PLAYGROUND)
    put(window, "temperature", "9")
    ask(window, "Hello")
    settled(window)
    assert "'/temperature' must be <= 5" in window.find("#error").text
    assert window.find("#error").text.startswith("5006: ")
    assert window.find("#message").get_attribute("value") == "Hello"
    window.logged().clear()  # the browser itself tells of the status 400


def test_the_code_follows_the_form(window: Browser) -> None:
    window.open(PLAYGROUND)
    window.find("#message").send_keys('It\'s "quoted" — «ü»\n')
    put(window, "seed", "3")
    for language, said in (
        ("curl", '"seed":3'),
        ("javascript", '"seed": 3'),
        ("python", '"seed": 3'),
        ("openai", "seed=3,"),
    ):
        window.find(f"[name=language][value={language}]").click()
        code = window.find(".snippet:not([hidden]) code").get_attribute("textContent") or ""
        assert said in code
        assert "«ü»" in code


@pytest.mark.parametrize("model", ["@cf/zai-org/glm-5.2", "@cf/openai/gpt-oss-20b", "@cf/meta/llama-guard-3-8b"])
def test_answers_of_every_shape_are_shown(window: Browser, model: str) -> None:
    """OpenAI's chunks, the native ones, and a card without streams; what is left at its default isn't sent."""
    window.open(f"/cdn-cgi/local/playground/{model}")
    put(window, "max_tokens", "6")
    ask(window, "Say something.")
    settled(window)
    assert numbers(window)["Tokens written"] == "6"
    assert window.texts(".turn.assistant .words")[0].strip()
    code = window.find(".snippet:not([hidden]) code").get_attribute("textContent") or ""
    assert set(json.loads(code.partition("-d '")[2].rpartition("'")[0].replace("'\"'\"'", "'"))) == {
        "messages",
        "max_tokens",
    }


def test_openais_responses_are_shown(window: Browser) -> None:
    window.open("/cdn-cgi/local/playground/@cf/openai/gpt-oss-20b")
    window.run("[...document.querySelectorAll('[name=mode]')].find((it) => it.value === 'variant-3').click()")
    put(window, "input", "Say something.", "variant-3")
    window.find("#send").click()
    settled(window)
    assert window.find("#answer").text.strip()
    assert int(numbers(window)["Tokens written"]) > 0


def test_a_model_that_cannot_run_says_so(window: Browser) -> None:
    window.open("/cdn-cgi/local/playground/@cf/black-forest-labs/flux-1-schnell")
    put(window, "prompt", "A bird.", "prompt")
    window.find("#send").click()
    settled(window)
    assert window.find("#error").text.startswith("5902: ")
    window.logged().clear()


def test_the_status_refreshes_by_itself(window: Browser) -> None:
    window.open(STATUS)
    rows = len(window.all("#recent ~ * tbody tr"))
    httpx.post(f"{window.url}{RUN}", json={"prompt": "a", "max_tokens": 1}, timeout=60).raise_for_status()
    window.wait(lambda: len(window.all("#recent ~ * tbody tr")) != rows)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_scrolls_sideways_on_a_phone(window: Browser, path: str) -> None:
    window.open(path, width=PHONE)
    assert window.run("return document.documentElement.scrollWidth") <= PHONE
    window.logged().clear()  # the browser itself tells of a status 404


@needs_axe
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing(window: Browser, path: str, scheme: Scheme, width: int) -> None:
    window.open(path, width=width, scheme=scheme)
    assert window.axe() == []
    window.logged().clear()


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_an_answer_or_a_refusal(window: Browser, scheme: Scheme) -> None:
    window.open(PLAYGROUND, scheme=scheme)
    put(window, "max_tokens", "4")
    ask(window, "Hello")
    settled(window)
    assert window.axe() == []
    put(window, "temperature", "9")
    ask(window, "Hello")
    settled(window)
    assert window.axe() == []
    window.logged().clear()


def test_a_token_is_asked_for_once() -> None:
    with live(create_app(AI(), hosts=None, token=TOKEN)) as url, browser(url) as window:
        window.open(PLAYGROUND)
        assert window.driver.current_url.startswith(f"{url}/cdn-cgi/local/enter?")
        window.find("#token").send_keys("wrong", Keys.ENTER)
        window.wait(lambda: window.texts("[role=alert]"))
        window.logged().clear()  # the browser itself tells of the status 401
        window.find("#token").send_keys(TOKEN, Keys.ENTER)
        window.wait(lambda: window.driver.current_url == url + PLAYGROUND)
        put(window, "max_tokens", "4")
        ask(window, "Hello")
        settled(window)
        assert numbers(window)["Tokens written"] == "4"
        assert TOKEN not in str(window.driver.get_cookies())
        code = window.find(".snippet:not([hidden]) code").get_attribute("textContent") or ""
        assert "$ROOST_TOKEN" in code


def test_names_of_pages_are_those_of_their_models(window: Browser) -> None:
    window.open(PAGE)
    assert window.driver.title == "starling-lm-7b-beta · roost"
    assert re.fullmatch(r"starling-lm-7b-beta", window.find("h1").text)


def test_copying_says_that_it_did(window: Browser) -> None:
    permission: dict[str, Any] = {"permission": {"name": "clipboard-write"}, "setting": "granted"}
    window.driver.execute_cdp_cmd("Browser.setPermission", permission)
    window.open(PAGE)
    button = window.find('[data-copies="code-curl"]')
    button.click()
    window.wait(lambda: button.text in ("Copied", "Selected"))
    assert window.find("#said").get_attribute("textContent")
