#!/usr/bin/env bash
# make test-export: run a script of this folder in an environment of its own, with PyTorch and without Roost.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

venv=.venv-export
installed=$venv/.installed
requirements=tests/runtime/reference/requirements.txt

if [[ ! $installed -nt $requirements ]]; then
    echo "setting up $venv with PyTorch and transformers (some minutes, once)"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps onnxruntime-genai==0.15.2
    touch "$installed"
fi

# The progress bars are transformers', and nothing of it is to be fetched.
TQDM_DISABLE=1 HF_HUB_OFFLINE=1 PYTHONPATH=. exec "$venv/bin/python" -m "tests.runtime.reference.$1" "${@:2}"
