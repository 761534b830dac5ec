import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.config import EngineConfig
from runtime.device import chosen, resolve_device
from runtime.engine import Engine
from runtime.scheduler import StepPlan
from runtime.session import DecoderSession
from tests.models.arithmetic import write_arithmetic_decoder

CAPACITY = 128
DEVICE = chosen(resolve_device(os.environ.get("ROOST_DEVICE", "cpu")))
"""Where the engine's laws are proven: make test-gpu sets the variable."""
StartEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def arithmetic_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_arithmetic_decoder(tmp_path_factory.mktemp("arithmetic") / "decoder.onnx")


@pytest.fixture
def start_engine(arithmetic_decoder: Path) -> Iterator[StartEngine]:
    """Starts engines over the arithmetic decoder whose every step is checked; closes them at the end."""
    yield from engine_starter(arithmetic_decoder)


def engine_starter(decoder: Path, *, steady: bool = False) -> Iterator[StartEngine]:
    """``steady``: decode steps of one shape and prompts cut on a grid, as CUDA wants them."""
    engines: list[Engine] = []

    def start(*, kv_tokens: int = 10_000, deterministic: bool = True, **shape: int) -> Engine:
        wanted = {"rows": 4, "waiting": 64, "chunk_tokens": 8, "prefill_tokens": 32, "kept_prompts": 3, **shape}
        if steady and deterministic:
            wanted["grid"] = wanted["chunk_tokens"]
        slots = wanted["rows"] + wanted["kept_prompts"]
        session = PoisonedSession(decoder, slots, rows=wanted["rows"], steady=steady, deterministic=deterministic)
        config = EngineConfig(
            kv_bytes=kv_tokens * session.kv_bytes_per_token, deterministic=deterministic, debug=True, **wanted
        )
        engines.append(Engine(session, config))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


class PoisonedSession(DecoderSession):
    """A session whose cache holds poison at the start, and which fails a step where a test wants it to."""

    fail_next = False

    def __init__(self, model: Path, slots: int, **options: Any) -> None:
        super().__init__(model, slots=slots, capacity=CAPACITY, device=DEVICE, threads=1, **options)
        self.plans: list[StepPlan] = []
        self._cache.fill(0x41)  # 12.1 as float32: nothing may read what nobody wrote

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        self.plans.append(plan)
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("the model broke, as this test asked it to")
        return super().run(plan)
