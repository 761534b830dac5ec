"""Markdown Conversion over REST, through Cloudflare's SDK and as a form."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cloudflare import Cloudflare

from tests.wrangler_compat.conftest import ACCOUNT

PAGE = b"<h1>Title</h1><p>Some <b>bold</b> <a href='/x'>text</a></p>"


@pytest.fixture
def client(url: str) -> Iterator[Cloudflare]:
    with Cloudflare(base_url=f"{url}/client/v4", api_token="any", max_retries=0) as sdk:
        yield sdk


def test_the_sdk_lists_what_is_supported(client: Cloudflare) -> None:
    listed: list[Any] = list(client.ai.to_markdown.supported(account_id=ACCOUNT))
    assert ".html" in [entry.extension for entry in listed]


def test_files_come_back_as_markdown_each_with_its_name(rest: httpx.Client) -> None:
    files = [("files", ("a.html", PAGE, "text/html")), ("files", ("b.xyz", b"?", "application/x-none"))]
    options = {"conversionOptions": json.dumps({"html": {"hostname": "example.com"}})}
    answer = rest.post("/tomarkdown", files=files, data=options)
    assert answer.headers["cf-ai-req-id"]
    page, unknown = answer.json()["result"]
    assert (page["name"], page["format"]) == ("a.html", "markdown")
    assert page["data"] == "# Title\n\nSome **bold** [text](https://example.com/x)"
    assert (unknown["name"], unknown["format"]) == ("b.xyz", "error")


@pytest.mark.parametrize("body", [{"files": []}, "text", {"data": "x"}])
def test_what_is_no_form_of_files_is_refused(rest: httpx.Client, body: Any) -> None:
    for answer in (rest.post("/tomarkdown", json=body), rest.post("/tomarkdown", files={"other": b"x"})):
        assert answer.status_code == 400
        assert [error["code"] for error in answer.json()["errors"]] == [5006]
