#!/usr/bin/env bash
# make agreement, perplexity, speed, gguf-reference: run a module of tests in an environment with its peers, llama.cpp and PyTorch.
# The first time llama-cpp-python is compiled, which takes a C++ compiler and some minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

venv=.venv-peers
installed=$venv/.installed
requirements=tests/benchmarks/requirements.txt

if [[ ! $installed -nt $requirements || ! $installed -nt pyproject.toml ]]; then
    echo "setting up $venv with llama.cpp and PyTorch (some minutes, once)"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[cpu]' --requirement "$requirements"
    touch "$installed"
fi

# The progress bars are transformers', and nothing of it is to be fetched.
TQDM_DISABLE=1 HF_HUB_OFFLINE=1 PYTHONPATH=. exec "$venv/bin/python" -m "tests.$1" "${@:2}"
