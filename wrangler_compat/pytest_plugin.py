"""pytest fixtures that come with roost: ``roost_ai``, ``worker`` and ``env``.

``@pytest.mark.roost(config="path/to/wrangler.toml", environment="staging")`` says which project a test is about;
without it, that of the folder in which the test's file stands, or of one above. ``config`` may be a list: the others
stand behind the first one's service bindings. What a test stores is gone after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # every pytest of the environment loads this file, so it imports little
    from wrangler_compat.testing import Loop, RoostAI, TestEnv, TestWorker


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "roost(config, environment): the project whose Worker a test is about")


@pytest.fixture(scope="session")
def _roost_loop() -> Iterator[Loop]:
    from wrangler_compat.testing import Loop

    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def _roost_doors(_roost_loop: Loop) -> Iterator[tuple[RoostAI, str]]:
    from wrangler_compat.testing import RoostAI, doors_of, served

    ai = RoostAI()
    with _roost_loop.inside(served(doors_of(ai))) as url:
        yield ai, url


@pytest.fixture
def roost_ai(_roost_doors: tuple[RoostAI, str]) -> Iterator[RoostAI]:
    """The AI binding that the Worker under test has: see :class:`wrangler_compat.testing.RoostAI`."""
    ai, _ = _roost_doors
    yield ai
    ai.forget()


@pytest.fixture
def worker(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    roost_ai: RoostAI,
    _roost_loop: Loop,
    _roost_doors: tuple[RoostAI, str],
) -> Iterator[TestWorker]:
    """The project's Worker: an ``httpx.Client`` with ``scheduled()``."""
    from wrangler_compat.project import find_configuration
    from wrangler_compat.testing import worker_of

    marker = request.node.get_closest_marker("roost")
    options: dict[str, Any] = dict(marker.kwargs) if marker else {}
    given = options.get("config") or [find_configuration(request.path.parent)]
    configs = [request.config.rootpath / each for each in ([given] if isinstance(given, str | Path) else given)]
    state = tmp_path_factory.mktemp("roost")
    with worker_of(_roost_loop, roost_ai, _roost_doors[1], state, configs, options.get("environment")) as client:
        yield client


@pytest.fixture
def env(worker: TestWorker) -> TestEnv:
    """The bindings of the project, from outside: ``await env.KV.get("a")``, or ``env.KV.get("a").result()``."""
    return worker.env
