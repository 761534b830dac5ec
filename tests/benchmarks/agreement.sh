#!/usr/bin/env bash
# make agreement: compares the stand-in's decoder with llama.cpp and PyTorch in an environment of their own.
# The first time llama-cpp-python is compiled, which takes a C++ compiler and some minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

venv=.venv-agreement
installed=$venv/.installed
requirements=tests/benchmarks/requirements-agreement.txt

if [[ ! $installed -nt $requirements || ! $installed -nt pyproject.toml ]]; then
    echo "setting up $venv with llama.cpp and PyTorch (some minutes, once)"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[cpu]' --requirement "$requirements"
    touch "$installed"
fi

# The progress bars are transformers', and nothing of it is to be fetched.
TQDM_DISABLE=1 HF_HUB_OFFLINE=1 exec "$venv/bin/python" tests/benchmarks/agreement.py
