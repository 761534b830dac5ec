# make demo   real text, streamed from env.AI.run
# make test   every check that CI runs
# Both set up what they need in .venv; the second time they start at once.

PYTHON ?= python3
BIN := .venv/bin
# onnxruntime-gpu where an NVIDIA driver answers, onnxruntime elsewhere: never both in one environment.
EXTRA := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)

NODE := tests/wrangler_compat/node
CLIENTS := tests/wrangler_compat/clients
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1
OFFLINE := echo "the packages can't be fetched: see pip's words above, your network, or pip's index settings" >&2; exit 1

.PHONY: demo test test-js test-clients test-export test-gpu gguf-reference setup check dev node-packages agreement perplexity embedding-speed lora-speed speed stress fuzz docker-dry-run clean

demo: setup
	@$(BIN)/python examples/ask.py

setup: .venv/.installed
	@$(BIN)/roost pull --stand-in >/dev/null

test: check node-packages
	$(BIN)/pytest

test-js: dev setup node-packages ## those of make test that need Node.js: Workers on the real wrangler, workerd and vitest
	$(BIN)/pytest tests/wrangler_compat/test_javascript.py tests/wrangler_compat/test_node_tools.py tests/wrangler_compat/test_examples.py tests/wrangler_compat/test_storage_shared.py

test-clients: dev setup ## other people's clients, from langchain to the npm SDKs, against a real port, in environments of their own
	@test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	@.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check 'langchain-cloudflare>=0.4' 'litellm>=1.80' \
		'openai-agents>=0.6' 'instructor>=1.12'
	@if command -v npm >/dev/null; then (cd $(CLIENTS) && npm install --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error); \
	else echo "no npm here: the tests of its clients are skipped"; fi
	$(BIN)/pytest tests/wrangler_compat/test_clients.py

test-export: setup ## makes the references of architectures and adapters afresh with PyTorch and PEFT, exports with optimum for real, and compares (3 GB, five minutes)
	@tests/runtime/reference/with_torch.sh make_checkpoint_logits
	@tests/runtime/reference/with_torch.sh make_foreign
	@tests/runtime/reference/with_torch.sh make_embeddings \
		"$$($(BIN)/python -c 'from runtime.artifacts import ArtifactStore; from runtime.stand_in import EMBEDDINGS; print(ArtifactStore().downloads / EMBEDDINGS.file)')"
	@tests/runtime/reference/with_torch.sh make_adapter_logits \
		"$$($(BIN)/python -c 'from runtime.artifacts import ArtifactStore; from runtime.stand_in import GGUF_NAME; print(ArtifactStore().downloads / GGUF_NAME)')"
	$(BIN)/pytest tests/runtime/reference/check_exports.py

gguf-reference: ## makes the references of the GGUF architectures afresh with llama.cpp, and compares
	@tests/benchmarks/with_peers.sh runtime.reference.make_gguf_logits

test-gpu: ## the engine's and the worker's suites on a GPU, then the benchmark; in an environment of its own
	@PYTHON=$(PYTHON) tests/gpu.sh

check: dev setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

dev: .venv/.dev-installed

node-packages:
	@$(NODE)/install.sh

agreement: setup ## top-1 agreement with llama.cpp and PyTorch; brings both into an environment of their own
	@tests/benchmarks/with_peers.sh benchmarks.agreement

perplexity: setup ## what rounding costs, beside llama.cpp's formats
	@tests/benchmarks/with_peers.sh benchmarks.perplexity

embedding-speed: setup ## sentences per second beside plain ONNX Runtime on the same graph
	@$(BIN)/python -m tests.benchmarks.embeddings

lora-speed: setup ## tokens per second with none, one and several LoRA adapters in a step
	@$(BIN)/python -m tests.benchmarks.lora

speed: setup ## tokens per second beside llama.cpp, and what the doors cost
	@tests/benchmarks/with_peers.sh benchmarks.speed

stress: dev setup node-packages ## faults and load in their long form, some seven minutes; writes the figures in docs/reliability.md
	@$(BIN)/python -m tests.stress.make_reliability

fuzz: dev setup ## JSON of any shape and broken HTTP at every door, with many more examples than make test tries
	FUZZ_EXAMPLES=300 $(BIN)/pytest --timeout 3600 tests/wrangler_compat/test_fuzz.py

docker-dry-run: ## the Dockerfile's CPU steps in an empty folder, for machines without Docker
	@PYTHON=$(PYTHON) tests/docker_dry_run.sh

clean:
	rm -rf $(NODE)/node_modules $(CLIENTS)/node_modules .venv .venv-clients .venv-peers .venv-export .venv-gpu .mypy_cache .ruff_cache .pytest_cache

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "roost needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 demo")'
	@echo "setting up .venv with roost[$(EXTRA)] (a minute or so, once; make EXTRA=cpu or EXTRA=gpu to choose)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --editable '.[$(EXTRA)]' || { $(OFFLINE); }
	@touch $@

.venv/.dev-installed: .venv/.installed
	@echo "adding the test tools to .venv"
	@$(PIP) --upgrade 'pip>=25.1' && $(PIP) --group dev || { $(OFFLINE); }
	@touch $@
