"""How fast is a GPU? The last part of ``make test-gpu``; prints the chip's name and tokens per second.

Reads the stand-in's artifact for CUDA, the session under it and nothing else, as speed.py does for the CPU.
"""

from __future__ import annotations

import os
import statistics
import sys

from runtime.artifacts import ArtifactStore
from runtime.device import chosen, resolve_device
from runtime.errors import RuntimeFault
from runtime.stand_in import find_stand_in
from tests.benchmarks.roost_peer import Roost

ROWS, CONTEXTS, PROMPTS = (1, 4, 16, 64), (128, 960), (128, 512, 1024)
CAPACITY, ROUNDS = 1100, 5


def main() -> None:
    """Measure on the device that ROOST_DEVICE names, by default the GPU with the most memory free."""
    device = chosen(resolve_device(os.environ.get("ROOST_DEVICE", "cuda")))
    artifact = find_stand_in(ArtifactStore(), device)
    if artifact is None:
        sys.exit("the stand-in isn't here for CUDA: type roost pull --stand-in --device cuda")
    print(f"{device.described}, {artifact.manifest.weights} {artifact.manifest.described}, {ROUNDS} rounds; medians")
    for capture in (True, False) if device.kind == "cuda" else (False,):
        print("\ndecode steps replayed from CUDA graphs" if capture else "\ndecode steps launched kernel by kernel")
        for rows in ROWS:
            peer = Roost(artifact.decoder, None, CAPACITY, rows, device=device, capture=capture)
            peer.fill()
            _measure(peer, rows)
            peer.close()


def _measure(peer: Roost, rows: int) -> None:
    for context in CONTEXTS:
        speed = statistics.median(peer.decode(rows, context) for _ in range(ROUNDS))
        print(f"{rows:3} rows, {context:4} tokens of context{speed:10.0f} tokens/s", flush=True)
    for prompt in PROMPTS if rows == 1 else ():
        speed = statistics.median(peer.prefill(prompt) for _ in range(ROUNDS))
        print(f"reading a prompt of {prompt:4} tokens{speed:10.0f} tokens/s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except RuntimeFault as fault:
        sys.exit(str(fault))
