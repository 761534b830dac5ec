"""Exports checkpoints to ONNX with optimum: in a process and an environment of its own, which lies in the cache.

Nothing of optimum, transformers or PyTorch is ever imported here. No code from a repository is run, and no pickle read.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from safetensors import SafetensorError, safe_open

from runtime.artifacts import TEXT_GENERATION, temporary_beside
from runtime.device import memory_share
from runtime.errors import ArtifactError

PINS = (
    "optimum==2.1.0",
    "optimum-onnx==0.1.0",
    "transformers==4.57.6",
    "torch==2.13.0",
    "onnx==1.23.2",
    "onnx-ir==1.1.0",
    "onnxscript==0.7.2",
    "onnxruntime==1.31.1",
    "tokenizers==0.22.2",
    "huggingface-hub==0.36.2",
    "safetensors==0.8.0",
    "numpy==2.4.6",
    "protobuf==7.36.2",
    "accelerate==1.15.0",
)
"""Versions that were measured to work together: optimum-onnx needs transformers 4 and PyTorch's older exporter.

With accelerate it finds matrices that are used twice, and writes them once.
"""

Report = Callable[[str, int, int], None]
Say = Callable[[str], None]
Dtype = Literal["fp32", "fp16"]

_INSTALLED_BYTES = 1_300_000_000  # with a CPU build of PyTorch
_ONE_FILE = 2_000_000_000  # bytes up to which the graph is one file, which is held in memory several times
_MEMORY_PER_PARAMETER, _MEMORY_IN_ONE_FILE, _BASE_MEMORY = 9.3, 19.0, 500_000_000  # bytes
_DISK_PER_PARAMETER = {"fp32": 8.0, "fp16": 4.4}  # bytes; the exporter writes twice
_SECONDS_PER_PARAMETER, _BASE_SECONDS = 3e-7, 10
_WITH_PAST = (TEXT_GENERATION, "text2text-generation", "automatic-speech-recognition")
_RETRIES, _POLL = 2, 1.0  # of pip; seconds between looks at what arrived
_EXPORT = """
import sys
from optimum.exporters.onnx import main_export
checkpoint, output, task, dtype = sys.argv[1:]
main_export(checkpoint, output=output, task=task, dtype=dtype, device="cpu", do_validation=False,
            trust_remote_code=False, local_files_only=True)
"""
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True, slots=True)
class ExportNeeds:
    """What an export takes: bytes and seconds, scaled from measured models of 135 and 582 million parameters."""

    parameters: int
    memory: int
    disk: int
    seconds: int

    def __str__(self) -> str:
        size, memory, disk = self.parameters / 1e6, self.memory / 1e9, self.disk / 1e9
        return (
            f"exporting {size:,.0f} million parameters takes some {memory:.1f} GB of memory, {disk:.1f} GB of disk "
            f"and {-(-self.seconds // 60)} min"
        )


def export_needs(checkpoint: Path, dtype: Dtype) -> ExportNeeds:
    """What exporting the safetensors in ``checkpoint`` takes; :class:`ArtifactError` where there are none."""
    shards = sorted(checkpoint.glob("*.safetensors"))
    if not shards:
        raise ArtifactError(f"{checkpoint} holds no safetensors to export (pickled weights are never loaded)")
    count = sum(_values_in(shard) for shard in shards)
    disk = int(count * _DISK_PER_PARAMETER[dtype])
    per_parameter = _MEMORY_IN_ONE_FILE if disk < 2 * _ONE_FILE else _MEMORY_PER_PARAMETER
    memory = int(count * per_parameter) + _BASE_MEMORY
    return ExportNeeds(count, memory, disk, int(count * _SECONDS_PER_PARAMETER) + _BASE_SECONDS)


@contextmanager
def exported(
    root: Path, checkpoint: Path, task: str, dtype: Dtype, report: Report, say: Say = lambda _sentence: None
) -> Iterator[Path]:
    """What optimum makes of the folder ``checkpoint``, in a folder that is gone when the block ends.

    ``root`` is the cache. Raises :class:`ArtifactError` in one sentence: what the machine lacks, or what optimum said.
    """
    _check_machine(export_needs(checkpoint, dtype), root, say)
    python = environment(root, report)
    with temporary_beside(root / "exports" / hashlib.sha256(str(checkpoint).encode()).hexdigest()[:12]) as scratch:
        output, log = scratch / "onnx", scratch / "log"
        full_task = f"{task}-with-past" if task in _WITH_PAST else task
        command = [str(python), "-I", "-c", _EXPORT, str(checkpoint.resolve()), str(output), full_task, dtype]
        status, said = _run(command, {**os.environ, **_OFFLINE}, log, lambda: report("exporting with optimum", 0, 0))
        if status:
            raise ArtifactError(f"optimum can't export {checkpoint.resolve().name}: {_why(status, said)}")
        yield output


def environment(root: Path, report: Report) -> Path:
    """The Python of optimum's environment under ``root``, made on first use; a half-made one is never left."""
    name = hashlib.sha256("\n".join((*PINS, sys.version)).encode()).hexdigest()[:12]
    folder = root / "exporters" / f"optimum-{name}"
    python = folder / "bin" / "python"
    if python.exists():
        return python
    try:
        with temporary_beside(folder) as partial:
            if not python.exists():  # or another process made it while this one waited
                _install(partial, report)
                partial.rename(folder)
    except OSError as error:
        raise ArtifactError(f"optimum's environment can't be made in {folder.parent}: {error}") from error
    return python


def _install(folder: Path, report: Report) -> None:
    scratch = folder / "scratch"
    venv.create(folder, with_pip=False, symlinks=True)
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    command += ["--disable-pip-version-check", "--no-warn-script-location", f"--retries={_RETRIES}", *PINS]
    status, said = _run(
        command,
        {**os.environ, "TMPDIR": str(scratch)},
        scratch / "log",
        lambda: report(
            f"installing {PINS[0]} and PyTorch", min(_bytes_below(folder), _INSTALLED_BYTES), _INSTALLED_BYTES
        ),
    )
    if status:
        raise ArtifactError(
            f"optimum can't be installed ({_last_error(said)}): --exporter optimum fetches {PINS[0]}, {PINS[3]} and "
            "what they need through pip, whose index settings apply"
        )
    (scratch / "log").unlink()
    scratch.rmdir()


def _run(command: Sequence[str], environment: dict[str, str], log: Path, tell: Callable[[], None]) -> tuple[int, str]:
    """Run ``command`` to its end, telling of progress: its status and what it said. It doesn't outlive an exception."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                tell()
                time.sleep(_POLL)
        finally:
            process.kill()
            process.wait()
    return process.returncode, log.read_text(encoding="utf-8", errors="replace")


def _check_machine(needs: ExportNeeds, root: Path, say: Say) -> None:
    room, free = memory_share(1), psutil.virtual_memory().available
    if needs.memory > room:
        raise ArtifactError(f"{needs}; this machine has {room / 1e9:.1f} GB of memory")
    root.mkdir(parents=True, exist_ok=True)
    disk = psutil.disk_usage(str(root)).free
    if needs.disk > disk:
        raise ArtifactError(f"{needs}; {root} has {disk / 1e9:.1f} GB free")
    say(str(needs) + (f"; {free / 1e9:.1f} GB of memory are free now" if needs.memory > free else ""))


def _values_in(shard: Path) -> int:
    count = 0
    try:
        with safe_open(shard, "np") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                size = 1
                for length in tensors.get_slice(name).get_shape():
                    size *= length
                count += size
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{shard.name} is not a readable safetensors file: {error}") from error
    return count


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue  # pip moved it between the two looks
    return total


def _why(status: int, said: str) -> str:
    if status < 0:
        return "it was killed, most likely for want of memory"
    if "trust_remote_code=True" in said:
        return "it needs code from its repository, which roost never runs"
    return _last_error(said)


def _last_error(said: str) -> str:
    """The last complaint in a program's output, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR") or "Error: " in line] or lines
    return (errors[-1] if errors else "it said nothing").removeprefix("ERROR: ").rstrip(".")
