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

    def start(*, kv_tokens: int = 10_000, **shape: int) -> Engine:
        wanted = {"rows": 4, "waiting": 64, "chunk_tokens": 8, "prefill_tokens": 32, "kept_prompts": 3, **shape}
        session = CheckedSession(arithmetic_decoder, wanted["rows"] + wanted["kept_prompts"])
        config = EngineConfig(kv_bytes=kv_tokens * session.kv_bytes_per_token, **wanted)
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

    def __init__(self, model: Path, slots: int) -> None:
        super().__init__(model, slots=slots, capacity=CAPACITY, device=Device(), threads=1)
        self.plans: list[StepPlan] = []
        for view in self._cache.views(0, slots + 1).values():
            view.fill(31.0)  # nothing may read what nobody wrote

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
