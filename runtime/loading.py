"""Loads an artifact's decoder where it is to run: the CPU, or a GPU with all that has to be settled there first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from runtime import cuda_driver
from runtime.artifacts import Artifact
from runtime.concat_session import ConcatSession
from runtime.config import EngineConfig
from runtime.device import Device, chosen, memory_share
from runtime.device_fit import gpu_needs, kept_that_fit
from runtime.errors import ArtifactError, DeviceFull, DeviceUnavailable
from runtime.open_decoder import open_decoder
from runtime.session import DecoderSession
from runtime.steady_probe import Findings, probe

GRID = 128
"""Tokens of a chunk on CUDA, whatever else runs: kernels go by it. So few keep streams at their pace."""

_WEIGHTS_SHARE = 0.5  # of the memory this process may use
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """A decoder that can run, on which device, and the engine's configuration that fits there.

    ``same_words``: whether a seed's text depends on nothing but its own request.
    """

    session: DecoderSession | ConcatSession
    device: Device
    config: EngineConfig
    same_words: bool


def load_decoder(
    artifact: Artifact, device: Device, config: EngineConfig, threads: int | None, make_room: Callable[[], bool]
) -> Ready:
    """``artifact``'s decoder on ``device``. ``make_room`` unloads something from the GPUs, if it can.

    A device that was chosen automatically gives way to the CPU, with a warning. Raises :class:`DeviceUnavailable`,
    :class:`DeviceFull` and :class:`ArtifactError`.
    """
    if device.kind == "cpu":
        return _on_cpu(artifact, config, threads)
    if artifact.manifest.shape is None and not device.automatic:
        raise DeviceUnavailable(
            f"{artifact.manifest.weights} comes in a graph made elsewhere; those run on the CPU alone: --device cpu"
        )
    try:
        while True:
            try:
                return _on_gpu(artifact, chosen(device), config, threads)
            except DeviceFull:
                if not make_room():
                    raise
    except (DeviceUnavailable, DeviceFull, ArtifactError) as fault:
        if not device.automatic:
            raise
        _log.warning("%s runs on the CPU, not on %s: %s", artifact.manifest.weights, device.described, fault)
        return _on_cpu(artifact, config, threads)


def expected_device(artifact: Artifact, device: Device) -> Device:
    """Where ``artifact`` will run, as far as can be told before it is loaded."""
    suits = artifact.manifest.half and artifact.manifest.shape is not None
    return Device() if device.automatic and not suits else device


def weights_budget(device: Device) -> int:
    """Bytes that loaded weights may take together where nobody says: the GPUs refuse by themselves what they lack."""
    here = memory_share(_WEIGHTS_SHARE)
    if device.kind == "cpu":
        return here
    indices = range(cuda_driver.count()) if device.index is None else [device.index]
    return max(here, sum(cuda_driver.total_memory(index) for index in indices))


def _on_cpu(artifact: Artifact, config: EngineConfig, threads: int | None) -> Ready:
    session = open_decoder(
        artifact.decoder,
        artifact.manifest.interface,
        slots=config.rows + config.kept_prompts,
        capacity=_capacity(artifact, config),
        device=Device(),
        threads=threads,
        deterministic=config.deterministic,
    )
    if session.needs_companion:
        _log.info("this processor rounds a lone row otherwise: it runs with a companion, so that words stay the same")
    return Ready(session, Device(), config, config.deterministic)


def _on_gpu(artifact: Artifact, device: Device, config: EngineConfig, threads: int | None) -> Ready:
    manifest = artifact.manifest
    if manifest.shape is None:
        raise ArtifactError(f"{manifest.weights} comes in a graph made elsewhere; those run on the CPU alone")
    if not manifest.half:
        model = "--stand-in" if manifest.stand_in else manifest.answers
        raise ArtifactError(f"{manifest.weights} was built for the CPU: type roost pull {model} --device cuda")
    assert device.index is not None
    capacity, gpu = _capacity(artifact, config), cuda_driver.gpu(device.index)
    needed = gpu_needs(artifact.size, manifest, config)
    what = f"{manifest.weights} ({manifest.described})"
    kept = kept_that_fit(needed, gpu, config, what=what, capacity=capacity)
    if kept < config.kept_prompts:
        _log.info("%s keeps %d prompts, not %d: more don't fit %s", what, kept, config.kept_prompts, device.described)
    config = replace(config, kept_prompts=kept, grid=GRID if config.deterministic else None)
    session, same_words = _probed(artifact, device, config, capacity, threads)
    slots = config.rows + kept
    kv_bytes = min(config.kv_bytes or slots * capacity * session.kv_bytes_per_token, slots * needed.slot)
    return Ready(session, device, replace(config, kv_bytes=kv_bytes), same_words and config.deterministic)


def _probed(
    artifact: Artifact, device: Device, config: EngineConfig, capacity: int, threads: int | None
) -> tuple[DecoderSession, bool]:
    """The session, with captured decode steps where those hold, and whether the law does."""

    def opened(*, capture: bool) -> DecoderSession:
        return DecoderSession(
            artifact.decoder,
            slots=config.rows + config.kept_prompts,
            rows=config.rows,
            capacity=capacity,
            device=device,
            threads=threads,
            deterministic=config.deterministic,
            capture=capture,
        )

    length = max(1, min(GRID, capacity - 1))
    try:
        session = opened(capture=True)
        found = _probe(session, device, config.rows, length)
        fault = found.capture_fault
        if fault is not None:
            session.close()  # what broke off in the middle of a capture is no state to go on from
    except ArtifactError as error:
        fault = str(error)
    if fault is not None:
        _log.warning("decode steps aren't captured as CUDA graphs on %s: %s", device.described, fault)
        session = opened(capture=False)
        found = _probe(session, device, config.rows, length)
    if config.deterministic and not found.same_words:
        _log.warning("%s doesn't compute a row alike in every company: words may depend on load", device.described)
    return session, found.same_words


def _probe(session: DecoderSession, device: Device, rows: int, length: int) -> Findings:
    """What holds on ``device``; :class:`DeviceUnavailable` where not even a plain step does."""
    try:
        return probe(session, rows=rows, length=length)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        session.close()
        raise DeviceUnavailable(f"{device.described} can't compute this model: {str(error).splitlines()[0]}") from error


def _capacity(artifact: Artifact, config: EngineConfig) -> int:
    return min(config.context, artifact.manifest.context)
