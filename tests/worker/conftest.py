import asyncio
from collections.abc import Iterator

import pytest

from tests.worker.live import live
from worker import AI
from wrangler_compat.app import create_app


@pytest.fixture(scope="session")
def ai() -> Iterator[AI]:
    """The binding in process, over the stand-in's weights."""
    binding = AI()
    yield binding
    asyncio.run(binding.aclose())


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """A running roost."""
    with live(create_app(AI())) as address:
        yield address
