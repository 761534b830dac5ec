"""``env``: the bindings of a plain Python script, as a Worker finds them in its own ``env``."""

from __future__ import annotations

import os
from functools import cached_property
from typing import NoReturn

from runtime.config import switched_on
from worker.bindings import AI


class Env:
    """Bindings made on first use, shaped by the environment.

    ``ROOST_URL`` (and ``ROOST_TOKEN``): a running roost to use instead of this process. ``ROOST_DEVICE``: auto, cpu,
    cuda or cuda:N. ``ROOST_STAND_IN=0``: no stand-in for models without weights. ``ROOST_CACHE``: where weights are.
    ``ROOST_DETERMINISTIC=0``: faster where text repeats itself, with words that may depend on load.
    ``ROOST_JSON_EVERYWHERE=1``: JSON Schemas for models whose cards have no JSON mode, too.
    """

    @cached_property
    def AI(self) -> AI:  # noqa: N802  (the platform's spelling)
        """The AI binding."""
        return AI(
            url=os.environ.get("ROOST_URL"),
            token=os.environ.get("ROOST_TOKEN"),
            device=os.environ.get("ROOST_DEVICE", "auto"),
            stand_in=switched_on("ROOST_STAND_IN", otherwise=True),
            deterministic=switched_on("ROOST_DETERMINISTIC", otherwise=True),
            json_everywhere=switched_on("ROOST_JSON_EVERYWHERE", otherwise=False),
        )

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"env has no binding {name}: a script's env has AI")


env = Env()
