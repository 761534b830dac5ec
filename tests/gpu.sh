#!/usr/bin/env bash
# make test-gpu: what needs a CUDA device. The engine's and the worker's suites run on it (ROOST_DEVICE names another),
# with tests/runtime/test_cuda.py first, then the benchmark. An environment of its own holds onnxruntime-gpu and CUDA.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Asked before anything is set up, for which the standard library is enough: CUDA's packages take 2.5 GB.
"${PYTHON:-python3}" - <<'ASK' || exit 1
import sys

from runtime import cuda_driver
from runtime.errors import DeviceUnavailable

try:
    found = [f"cuda:{index} is {cuda_driver.chip(index)}" for index in range(cuda_driver.count())]
except DeviceUnavailable as error:
    sys.exit(f"no GPU answers here, so nothing was tested: {error}")
print("\n".join(found) or sys.exit("no GPU answers here, so nothing was tested: the NVIDIA driver knows no device"))
ASK

venv=.venv-gpu
if [[ ! $venv/.installed -nt pyproject.toml ]]; then
    echo "setting up $venv with roost[gpu] (2.5 GB, once)"
    test -x "$venv/bin/python" || "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[gpu]' --group dev
    touch "$venv/.installed"
fi

export ROOST_DEVICE=${ROOST_DEVICE:-cuda}
"$venv/bin/roost" pull --stand-in --device cpu
"$venv/bin/roost" pull --stand-in --device "$ROOST_DEVICE"
"$venv/bin/pytest" tests/runtime/test_cuda.py
"$venv/bin/pytest" tests/runtime tests/worker --deselect tests/runtime/test_cuda.py
"$venv/bin/python" -m tests.benchmarks.gpu
