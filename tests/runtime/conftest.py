from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.config import EngineConfig
from runtime.device import Device
from runtime.engine import Engine
from runtime.invariants import check_plan, check_scheduler
from runtime.scheduler import StepPlan
from runtime.session import DecoderSession
from tests.models.arithmetic import write_arithmetic_decoder

CAPACITY = 128
StartEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def arithmetic_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_arithmetic_decoder(tmp_path_factory.mktemp("arithmetic") / "decoder.onnx")


@pytest.fixture
def start_engine(arithmetic_decoder: Path) -> Iterator[StartEngine]:
    """Starts engines over the arithmetic decoder whose every step is checked; closes them at the end."""
    engines: list[Engine] = []

    def start(
        *, kv_tokens: int = 10_000, rows: int = 4, waiting: int = 64, chunk: int = 8, prefill: int = 32
    ) -> Engine:
        session = CheckedSession(arithmetic_decoder, rows)
        config = EngineConfig(
            rows=rows,
            waiting=waiting,
            chunk_tokens=chunk,
            prefill_tokens=prefill,
            kv_bytes=kv_tokens * session.kv_bytes_per_token,
        )
        engine = Engine(session, config)
        session.engine = engine
        engines.append(engine)
        return engine

    yield start
    broken = [rule for engine in engines if (rule := _close(engine))]
    assert not broken


def _close(engine: Engine) -> str | None:
    engine.close()
    session = engine._executor
    assert isinstance(session, CheckedSession)
    return session.broken


class CheckedSession(DecoderSession):
    """A session that poisons its cache at the start and checks the invariants before each step."""

    engine: Engine | None = None
    broken: str | None = None
    fail_next = False

    def __init__(self, model: Path, rows: int) -> None:
        super().__init__(model, rows=rows, capacity=CAPACITY, device=Device(), threads=1)
        self.plans: list[StepPlan] = []
        for slab in self._slabs.values():
            slab.fill(31.0)  # nothing may read what nobody wrote

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        self.plans.append(plan)
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("the model broke, as this test asked it to")
        with suppress(AttributeError):
            self._check(plan)
        return super().run(plan)

    def _check(self, plan: StepPlan) -> None:
        assert self.engine is not None
        try:
            check_scheduler(self.engine._scheduler)
            check_plan(self.engine._scheduler, plan)
        except AssertionError as rule:
            self.broken = str(rule)
            raise
