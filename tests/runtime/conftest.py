import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.concat_session import ConcatSession
from runtime.config import EngineConfig
from runtime.device import Device, chosen, resolve_device
from runtime.engine import Engine
from runtime.graph_interface import GraphInterface
from runtime.open_decoder import open_decoder
from runtime.scheduler import StepPlan
from runtime.session import DecoderSession
from tests.models.arithmetic import write_arithmetic_decoder
from tests.models.foreign_arithmetic import write_foreign_decoder

CAPACITY = 128
DEVICE = chosen(resolve_device(os.environ.get("ROOST_DEVICE", "cpu")))
"""Where the engine's laws are proven: make test-gpu sets the variable."""
StartEngine = Callable[..., Engine]


@dataclass(frozen=True)
class Decoder:
    """A graph of the arithmetic model, and how it is fed; ``None`` for our own kind."""

    path: Path
    interface: GraphInterface | None


@pytest.fixture(scope="session")
def arithmetic_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_arithmetic_decoder(tmp_path_factory.mktemp("arithmetic") / "decoder.onnx")


@pytest.fixture(scope="session", params=["own", "in_place", "concat"])
def decoder(
    request: pytest.FixtureRequest, arithmetic_decoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Decoder:
    """The arithmetic model in each kind of graph that is served; the engine's laws hold on all."""
    if request.param == "own":
        return Decoder(arithmetic_decoder, None)
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    return Decoder(path, write_foreign_decoder(path, in_place=request.param == "in_place"))


@pytest.fixture
def start_engine(decoder: Decoder) -> Iterator[StartEngine]:
    """Starts engines over an arithmetic decoder whose every step is checked; closes them at the end."""
    yield from engine_starter(decoder)


def engine_starter(decoder: Decoder, *, steady: bool = False) -> Iterator[StartEngine]:
    """``steady``: decode steps of one shape and prompts cut on a grid, as CUDA wants them."""
    engines: list[Engine] = []

    def start(*, kv_tokens: int = 10_000, deterministic: bool = True, **shape: int) -> Engine:
        wanted = {"rows": 4, "waiting": 64, "chunk_tokens": 8, "prefill_tokens": 32, "kept_prompts": 3, **shape}
        if steady and deterministic:
            wanted["grid"] = wanted["chunk_tokens"]
        slots = wanted["rows"] + wanted["kept_prompts"]
        session = WatchedExecutor(decoder, slots, wanted["rows"], steady=steady, deterministic=deterministic)
        config = EngineConfig(
            kv_bytes=kv_tokens * session.kv_bytes_per_token, deterministic=deterministic, debug=True, **wanted
        )
        engines.append(Engine(session, config))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


class WatchedExecutor:
    """A session whose cache holds poison at the start, and which fails a step where a test wants it to."""

    def __init__(
        self, decoder: Decoder, slots: int, rows: int, *, steady: bool = False, deterministic: bool = True
    ) -> None:
        self._session = self._opened(decoder, slots, rows, steady=steady, deterministic=deterministic)
        self.fail_next = False
        self.plans: list[StepPlan] = []
        if isinstance(self._session, DecoderSession):
            self._session._cache.fill(0x41)  # 12.1 as float32: nothing may read what nobody wrote

    @staticmethod
    def _opened(
        decoder: Decoder, slots: int, rows: int, *, steady: bool, deterministic: bool
    ) -> DecoderSession | ConcatSession:
        options: dict[str, Any] = {"capacity": CAPACITY, "threads": 1, "deterministic": deterministic}
        if decoder.interface is None:
            return DecoderSession(decoder.path, slots=slots, device=DEVICE, rows=rows, steady=steady, **options)
        return open_decoder(decoder.path, decoder.interface, slots=slots, device=Device(), **options)

    @property
    def capacity(self) -> int:
        return self._session.capacity

    @property
    def kv_bytes_per_token(self) -> int:
        return self._session.kv_bytes_per_token

    @property
    def takes_adapters(self) -> bool:
        return self._session.takes_adapters

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        self.plans.append(plan)
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("the model broke, as this test asked it to")
        return self._session.run(plan)

    def close(self) -> None:
        self._session.close()
