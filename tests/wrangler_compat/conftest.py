from collections.abc import Iterator

import httpx
import pytest

from tests.worker.live import live
from tests.wrangler_compat.node_tools import WHY_NOT
from worker import AI
from wrangler_compat.app import create_app

ACCOUNT = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """A running roost."""
    with live(create_app(AI())) as address:
        yield address


@pytest.fixture(scope="session")
def http(url: str) -> Iterator[httpx.Client]:
    """A client of the running roost."""
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def rest(url: str) -> Iterator[httpx.Client]:
    """A client of its REST door."""
    with httpx.Client(base_url=f"{url}/client/v4/accounts/{ACCOUNT}/ai", timeout=60) as client:
        yield client


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say last how many tests didn't run for want of Node.js or its packages."""
    yield
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if str(WHY_NOT) in str(report.longrepr)]
    if WHY_NOT and skipped:
        terminalreporter.write_line(f"{len(skipped)} tests of JavaScript Workers were skipped: {WHY_NOT}", yellow=True)
