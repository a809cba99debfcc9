# Two commands on a fresh machine (Python >= 3.11, git, make): `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# torch comes first and pinned: without it, a later package would pull gigabytes of CUDA libraries.
# On a machine whose package index serves CUDA builds, point TORCH_ARGS at the CPU index:
#   make setup TORCH_ARGS="--index-url <the CPU wheels of pytorch.org>"
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: setup assets quickstart test exactness engines parity lint format acceptance benchmarks population gpu searches studies strategies torture registry clean help

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(READY) ## make .venv with torch, the package and its tools

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python >= 3.11 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	@test -x $(BIN)/python || (echo "making $(VENV)" >&2 && $(PYTHON) -m venv $(VENV))
	@echo "installing $(TORCH)" >&2
	@$(PIP) install $(TORCH_ARGS) "$(TORCH)"
	@echo "installing legion and its tools" >&2
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

assets: setup ## fetch the embedded base models and data, once
	@$(BIN)/legion assets fetch --format quiet >/dev/null

quickstart: assets ## the whole loop on the embedded model and data
	@$(BIN)/legion data prepare --format quiet >/dev/null
	@$(BIN)/legion quickstart

test: assets ## the tests
	@$(BIN)/python -m pytest -q

exactness: setup ## compare packed trainings with PEFT's, every adapter on every family, half an hour
	@LEGION_EXACTNESS_RESULTS=benchmarks/results/exactness.json $(BIN)/python -m pytest -q -m heavy tests/exactness

engines: setup ## install vLLM, llama.cpp and the adapters library, once (4, 14 and 2 minutes)
	@$(BIN)/legion engines install vllm llama.cpp adapters --format quiet >/dev/null

parity: assets engines ## ask the real engines about every kind of adapter
	@LEGION_PARITY_RESULTS=benchmarks/results/parity.json $(BIN)/python -m pytest -q -m engines tests/parity

lint: setup ## ruff, mypy strict, the contracts of the floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## let ruff write the layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

acceptance: assets ## the heavy run: summarization end to end with smollm2-135m, quickstart in 4 GB
	@$(BIN)/python benchmarks/acceptance.py

benchmarks: assets ## measured figures into benchmarks/results/
	@$(BIN)/python benchmarks/cost_model.py

population: assets ## one population against Optuna + PEFT + Trainer, about an hour on an idle machine; stop it and it goes on
	@$(PIP) install --constraint constraints.txt --editable '.[bench]'
	@$(BIN)/python -m benchmarks.population

gpu: assets ## one population on a CUDA device against the Trainer there, about ten minutes
	@$(PIP) install --constraint constraints.txt --editable '.[bench]'
	@$(BIN)/legion data prepare --format quiet >/dev/null
	@$(BIN)/python -m benchmarks.gpu_population

searches: assets ## train the table of 210 candidates once (an hour and a half), then compare searches on it
	@$(PIP) install --constraint constraints.txt --editable '.[bench-search]'
	@$(BIN)/legion data prepare --format quiet >/dev/null
	@$(BIN)/python -m benchmarks.search.table
	@$(BIN)/python benchmarks/search_overhead.py
	@$(BIN)/python -m benchmarks.search

studies: assets ## live searches by the clock, against the default adapter, after another domain: hours on an idle machine
	@$(PIP) install --constraint constraints.txt --editable '.[bench,bench-search]'
	@$(BIN)/legion data prepare --format quiet >/dev/null
	@$(BIN)/python -m benchmarks.search.versus_default
	@$(BIN)/python -m benchmarks.search.warm_start
	@$(BIN)/python -m benchmarks.search.live

strategies: assets ## train every strategy briefly, about 15 minutes; fills the table of docs/strategies/index.md
	@$(BIN)/python benchmarks/strategies.py
	@$(BIN)/python benchmarks/adamix.py

torture: setup ## kill writers of a registry 10,000 times and fail its disk at every place; an hour on an idle machine
	@$(BIN)/python -m benchmarks.registry.torture --out benchmarks/results/registry-torture.json
	@$(BIN)/python -m pytest -q -m heavy tests/registry

registry: setup ## a registry of a million snapshots, and with MLFLOW_PYTHON=... registrations beside MLflow's; half an hour
	@$(BIN)/python -m benchmarks.registry.million --out benchmarks/results/registry-million.json
	@test -z "$(MLFLOW_PYTHON)" || $(BIN)/python -m benchmarks.registry.versus_mlflow --mlflow-python "$(MLFLOW_PYTHON)" --out benchmarks/results/registry-versus-mlflow.json

clean: ## remove what the targets made, not the cache of assets
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
