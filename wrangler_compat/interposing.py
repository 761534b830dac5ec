"""Who stands between the doors and the engine, by the options of ``roost serve``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.errors import Refused
from worker.call import Interposer
from worker.faults import Faults, parse_fault
from worker.recording import Recorder, Replayer


def interposers(
    record: Path | None, replay: Path | None, faults: Sequence[str], fault_seed: int
) -> tuple[Interposer, ...]:
    """Faults first, so that they are neither recorded nor kept from a replay."""
    if record and replay:
        raise Refused("--record and --replay exclude each other")
    chosen: list[Interposer] = []
    if faults:
        chosen.append(Faults([parse_fault(text) for text in faults], fault_seed))
    if record:
        chosen.append(Recorder(record))
    if replay:
        chosen.append(Replayer(replay))
    return tuple(chosen)
