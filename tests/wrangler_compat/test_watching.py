"""What a running roost says of its requests: metrics, the log, spans, ``ps``, and the dashboard over them."""

import asyncio
import json
import logging
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.artifacts import ArtifactStore
from runtime.config import EngineConfig
from runtime.pool import Pool
from tests.worker.asking import ENDLESS, GREEDY, MODEL
from tests.worker.live import computing_at, idle_at, live
from tests.wrangler_compat.test_cli_processes import ended, roost, serving
from worker import AI
from worker.metrics import UNKNOWN
from worker.tracing import SWITCHES, Tracing, tracing_from_environment
from wrangler_compat.app import create_app

pytestmark = pytest.mark.weights

RUN = f"/client/v4/accounts/a/ai/run/{MODEL}"
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def fresh() -> Iterator[str]:
    """A roost that nobody has asked anything."""
    with live(create_app(AI())) as url:
        yield url


def metrics(url: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Samples by name and labels but ``model``; a model's name that isn't expected fails the test that looks for it."""
    answer = httpx.get(f"{url}/cdn-cgi/local/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_count_what_was_asked(fresh: str) -> None:
    asked = (GREEDY, GREEDY, {**GREEDY, "max_tokens": 9})
    usages = [httpx.post(fresh + RUN, json=one, timeout=60).json()["result"]["usage"] for one in asked]
    told = metrics(fresh)
    assert told["roost:prompt_tokens_total", (MODEL,)] == sum(usage["prompt_tokens"] for usage in usages)
    assert told["roost:generation_tokens_total", (MODEL,)] == sum(usage["completion_tokens"] for usage in usages)
    cached = sum(usage.get("prompt_tokens_details", {}).get("cached_tokens", 0) for usage in usages)
    assert told["roost:prompt_tokens_cached_total", (MODEL,)] == cached
    for name in ("time_to_first_token", "time_per_output_token", "request_queue_time", "e2e_request_latency"):
        assert told[f"roost:{name}_seconds_count", (MODEL,)] == 3
        assert told[f"roost:{name}_seconds_sum", (MODEL,)] > 0
    assert sum(value for (name, _), value in told.items() if name == "roost:request_success_total") == 3
    assert told["roost:engine_steps_total", (MODEL,)] == told["roost:batch_size_count", (MODEL,)] > 0
    assert told["roost:batch_size_sum", (MODEL,)] >= told["roost:generation_tokens_total", (MODEL,)]


def test_failures_are_counted_by_code_and_strangers_under_one_name(fresh: str) -> None:
    run = fresh + RUN.removesuffix(MODEL)
    for name in ("@cf/no/such", '@cf/"} evil{', "@cf/" + "x" * 500):
        assert httpx.post(run + quote(name), json=GREEDY).status_code == 400
    assert httpx.post(fresh + RUN, json={"prompt": 1}).status_code == 400
    told = metrics(fresh)
    assert told["roost:request_failure_total", ("5007", UNKNOWN)] == 3
    assert told["roost:request_failure_total", ("5006", MODEL)] == 1
    assert {labels for name, labels in told if name == "roost:request_failure_total"} == {
        ("5007", UNKNOWN),
        ("5006", MODEL),
    }


def test_who_runs_and_who_left_is_told(fresh: str) -> None:
    with httpx.stream("POST", fresh + RUN, json={**ENDLESS, "stream": True}, timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        computing_at(fresh, 3)
        told = metrics(fresh)
        assert told["roost:num_requests_running", (MODEL,)] == 1
        assert told["roost:num_requests_waiting", (MODEL,)] == 0
        assert 0 < told["roost:kv_cache_usage_perc", (MODEL,)] < 1
        (row,) = httpx.get(f"{fresh}/cdn-cgi/local/ps").json()["requests"]
        assert (row["model"], row["state"], row["outcome"]) == (MODEL, "writing", "running")
        assert row["age"] > 0
        assert row["completion_tokens"] >= 3
        assert row["tokens_per_second"] > 0
    idle_at(fresh)
    while (told := metrics(fresh)).get(("roost:request_success_total", ("abort", MODEL))) != 1:
        pass
    assert told["roost:num_requests_running", (MODEL,)] == 0
    assert httpx.get(f"{fresh}/cdn-cgi/local/ps").json()["requests"] == []


async def test_one_who_waits_is_told_apart_from_those_who_run() -> None:
    ai = AI(pool=Pool(ArtifactStore(), config=EngineConfig(rows=1)))
    with live(create_app(ai)) as url:
        async with httpx.AsyncClient(timeout=60) as client:
            first = await client.send(
                client.build_request("POST", url + RUN, json={**ENDLESS, "stream": True}), stream=True
            )
            second = asyncio.create_task(client.post(url + RUN, json=GREEDY))
            while [entry.state for entry in ai.recent.running()] != ["writing", "waiting"]:
                await asyncio.sleep(0.01)
            told = await asyncio.to_thread(metrics, url)
            assert told["roost:num_requests_running", (MODEL,)] == 1
            assert told["roost:num_requests_waiting", (MODEL,)] == 1
            await first.aclose()
            assert (await second).is_success


def test_health_says_whether_requests_are_taken(fresh: str) -> None:
    told = httpx.get(f"{fresh}/cdn-cgi/local/health").json()
    assert (told["status"], told["live"], told["ready"], told["device"], told["models"]) == (
        "ok",
        True,
        True,
        "cpu",
        {},
    )
    assert httpx.post(fresh + RUN, json=GREEDY, timeout=60).is_success
    assert httpx.get(f"{fresh}/cdn-cgi/local/health").json()["models"] == {MODEL: "loaded"}


SECRET = "The password is swordfish"


def logged(records: list[logging.LogRecord], path: str) -> logging.LogRecord:
    """The line of the request to ``path``, which may come after its answer; the test's own timeout is the limit."""
    while True:
        for record in [*records]:
            if record.name == "roost.requests" and f" {path} " in record.getMessage():
                return record
        time.sleep(0.01)


def test_a_request_is_one_line_with_its_model_tokens_and_times(fresh: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert httpx.post(fresh + RUN, json={**GREEDY, "prompt": SECRET}, timeout=60).is_success
        assert httpx.get(f"{fresh}/nowhere").status_code == 404
        line, other = (logged(caplog.records, path).getMessage() for path in (RUN, "/nowhere"))
    assert re.fullmatch(
        rf"POST {re.escape(RUN)} 200 OK \(\d+ms\); {re.escape(MODEL)}, \d+\+\d+ tokens, first \d+ms(, \d+ tok/s)?", line
    )
    assert other.startswith("GET /nowhere 404 Not Found (")
    assert "swordfish" not in caplog.text


def test_a_refusals_line_has_its_code(fresh: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        httpx.post(fresh + RUN, json={"prompt": 1})
        line = logged(caplog.records, RUN).getMessage()
    assert line.endswith(f"; {MODEL}, error 5006")


@pytest.mark.parametrize("asked_for", [False, True])
def test_json_lines_hold_the_same_and_prompts_where_they_are_asked_for(*, asked_for: bool) -> None:
    options = ["--log-prompts"] if asked_for else []
    with serving("--port", "0", "--log-format", "json", *options) as (process, url):
        assert httpx.post(url + RUN, json={**GREEDY, "prompt": SECRET}, timeout=60).is_success
        lines = [json.loads(line) for line in ended(process, signal.SIGTERM).splitlines()]
    (line,) = [line for line in lines if line.get("path") == RUN]
    assert (line["level"], line["method"], line["status"]) == ("info", "POST", 200)
    (run,) = line["runs"]
    assert run["model"] == MODEL
    assert run["completion_tokens"] > 0
    assert 0 <= run["queued"] <= run["first"] <= run["took"]
    assert ("swordfish" in json.dumps(lines)) is asked_for


def test_spans_are_children_of_the_callers() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    ai = AI()
    with live(create_app(ai, tracing=Tracing(ai, provider))) as url:
        caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        answer = httpx.post(url + RUN, json=GREEDY, headers=caller, timeout=60)
        httpx.post(url + RUN, json={"prompt": 1})
    child, failed = exporter.get_finished_spans()
    assert child.parent is not None
    assert f"{child.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{child.parent.span_id:016x}" == "b7ad6b7169203331"
    told: dict[str, Any] = dict(child.attributes or {})
    assert told["gen_ai.request.model"] == MODEL
    assert told["gen_ai.response.id"] == answer.headers["cf-ai-req-id"]
    assert told["gen_ai.usage.output_tokens"] == answer.json()["result"]["usage"]["completion_tokens"]
    assert told["gen_ai.latency.time_to_first_token"] <= told["gen_ai.latency.e2e"]
    assert failed.parent is None
    assert (failed.attributes or {})["error.type"] == "5006"
    assert not failed.status.is_ok


def test_without_an_exporter_in_the_environment_there_are_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    assert tracing_from_environment(AI()) is None


def test_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[bytes] = []

    async def collect(request: Request) -> Response:
        bodies.append(await request.body())
        return Response(media_type="application/x-protobuf")

    ai = AI()
    with live(Starlette(routes=[Route("/v1/traces", collect, methods=["POST"])])) as collector:
        monkeypatch.setenv(SWITCHES[0], collector)
        with live(create_app(ai, tracing=tracing_from_environment(ai))) as url:
            assert httpx.post(url + RUN, json={**GREEDY, "prompt": SECRET}, timeout=60).is_success
    sent = b"".join(bodies)
    assert MODEL.encode() in sent
    assert b"swordfish" not in sent


def test_ps_prints_requests_with_their_age_and_pace() -> None:
    with serving("--port", "0") as (_, url):
        with httpx.stream("POST", url + RUN, json={**ENDLESS, "stream": True}, timeout=60) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            computing_at(url, 3)
            (row,) = json.loads(roost("ps", "--json").stdout)["requests"]
            assert row["state"] == "writing"
            assert row["tokens_per_second"] > 0
            shown = roost("ps").stdout
        assert row["request_id"] in shown
        assert "writing" in shown


def test_the_dashboards_queries_name_metrics_that_exist(fresh: str) -> None:
    assert httpx.post(fresh + RUN, json=GREEDY, timeout=60).is_success
    assert httpx.post(fresh + RUN, json={"prompt": 1}).status_code == 400
    there = {name for name, _ in metrics(fresh)}
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    named = {name for query in queries for name in re.findall(r"roost:\w+", query)}
    assert named - there == set()
    assert {family(name) for name in there} == {family(name) for name in named}


def family(name: str) -> str:
    """A metric's name without what its kind's samples add."""
    return re.sub("_(bucket|sum|count|total|created)$", "", name)
