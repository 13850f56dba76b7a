# Danqing: every command of the project. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
SDKS ?= 1.24.0 1.24.10 1.25.0 1.25.24 1.26.7 1.27.8
LITELLM ?= litellm==1.106.2
NODE_CLIENTS ?= openai@6.49.0 tsx@4.23.15
QWENCLOUD ?= QwenCloud/qwencloud-ai 2907b4c54480b58823d7c28749443871f726ac64
BAOYU ?= JimLiu/baoyu-skills 7c5e81fd158c6e14ff0c87b1eced24c9a2bf3f0c
GITHUB ?= https://github.com
SCHEMATHESIS ?= schemathesis==4.32.5
PIP := $(BIN)/python -m pip --disable-pip-version-check
SETUP := tools/setup.sh

.DEFAULT_GOAL := help
.PHONY: help setup demo serve check test fix eval bench chaos sdks fuzz clients train docs lock clean

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

setup: $(VENV)/.user ## make .venv and install the server, pinned and hashed

$(VENV)/.user: pyproject.toml locks/user.txt $(SETUP)
	PYTHON="$(PYTHON)" VENV="$(VENV)" TORCH="$(TORCH)" TORCH_INDEX="$(TORCH_INDEX)" $(SETUP) locks/user.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.user locks/dev.txt
	PYTHON="$(PYTHON)" VENV="$(VENV)" TORCH="$(TORCH)" TORCH_INDEX="$(TORCH_INDEX)" $(SETUP) locks/dev.txt
	@touch $@

demo: $(VENV)/.user ## make pictures through the official SDK, from an empty folder to a contact sheet
	$(BIN)/python -m tools.demo

serve: $(VENV)/.user ## start the server (http://127.0.0.1:8000)
	$(BIN)/danqing serve

check: $(VENV)/.dev ## formatting, lint, types, import contracts, size budgets, docs in step
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.shape
	$(BIN)/python -m tools.reference --check

test: $(VENV)/.dev ## everything that needs no GPU and no service beyond what it starts itself
	$(BIN)/python -m pytest

fix: $(VENV)/.dev ## format and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tools.reference

docs: $(VENV)/.dev ## write the generated reference pages
	$(BIN)/python -m tools.reference

eval: $(VENV)/.dev ## judge the bundled checkpoint on held-out scenes
	$(BIN)/python -m bench.eval

bench: $(VENV)/.dev ## the figures: overhead, start, memory, engine against the stock pipeline
	$(BIN)/python -m bench

chaos: $(VENV)/.dev ## a longer run of killed workers and servers, audited at the end
	$(BIN)/python -m pytest tests/chaos --chaos-jobs 1000
	DANQING_INTERLEAVINGS=500 $(BIN)/python -m pytest tests/unit/engine/test_interleaving.py

sdks: $(VENV)/.dev $(SDKS:%=.sdks/%/.made) ## the same calls through older releases of the official SDK, each installed apart
	DANQING_TEST_SDKS="$$(printf '%s:' $(SDKS:%=.sdks/%/bin/python))" $(BIN)/python -m pytest tests/e2e/test_sdk_releases.py

.sdks/%/.made:
	$(PYTHON) -m venv .sdks/$*
	.sdks/$*/bin/python -m pip --disable-pip-version-check install -q dashscope==$*
	@touch $@

fuzz: $(VENV)/.dev .fuzz/.made ## thousands of requests drawn from the OpenAPI page, each answer held against it
	DANQING_TEST_SCHEMATHESIS=$(CURDIR)/.fuzz/bin/schemathesis $(BIN)/python -m pytest tests/fuzz

.fuzz/.made:
	$(PYTHON) -m venv .fuzz
	.fuzz/bin/python -m pip --disable-pip-version-check install -q $(SCHEMATHESIS)
	@touch $@

clients: $(VENV)/.dev .clients/.made ## other people's clients, unchanged, each installed apart (wants git, node and npm)
	$(BIN)/python -m pytest tests/e2e/test_clients.py

.clients/.made:
	rm -rf .clients && mkdir .clients
	git clone -q $(GITHUB)/$(word 1,$(QWENCLOUD)) .clients/qwencloud-ai && git -C .clients/qwencloud-ai checkout -q $(word 2,$(QWENCLOUD))
	git clone -q $(GITHUB)/$(word 1,$(BAOYU)) .clients/baoyu-skills && git -C .clients/baoyu-skills checkout -q $(word 2,$(BAOYU))
	npm install --prefix .clients/node --no-audit --no-fund --loglevel error $(NODE_CLIENTS)
	$(PYTHON) -m venv .clients/litellm
	.clients/litellm/bin/python -m pip --disable-pip-version-check install -q $(LITELLM)
	@touch $@

train: $(VENV)/.dev ## train a checkpoint like the bundled one into .train/miniature (ten hours; goes on where it was)
	$(BIN)/python -m training --out .train/miniature --processes 2 --threads 1 --resume

lock: $(VENV)/.dev ## pin the dependencies again
	$(PIP) install -q pip-tools
	$(BIN)/python -m tools.lock --upgrade

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) .demo .eval .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .sdks .fuzz .clients dist build
