# `make` alone lists the targets. Variables of `make sweep` are the options of the command line in
# upper case: make sweep DATASET=mnist K=100:1000:100 MEMORY=1GiB
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# $(value …) everywhere: a $ in a name of a file is no reference to another variable
# where a file of options is given, OUT is what it says
override OUT := $(or $(value OUT),$(if $(value EXPERIMENT),,runs))
VARIABLES := DATASET DATA OUT PATCH STRIDE BORDER THRESHOLD KEEP SAMPLE LAYOUT CHANNELS WHITE NODATA \
	MASK MASK_BY HELDOUT TEST LABELS ON_ERROR K MODE INIT TOL MIN_GAIN MAX_ITER BREATHING BATCH_SIZE \
	EMPTY PREPROCESS CONTRAST_FLOOR ZCA_EPSILON DISTANCE DEVICE DEVICE_MEMORY ENGINE MEMORY SEED \
	SCHEDULER EXPERIMENT
FORMER := TARGET MOVES
KNOWN := $(VARIABLES) $(FORMER) PYTHON BENCH SHELL
GIVEN := $(foreach _,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $_))),$_))
UNKNOWN := $(firstword $(filter-out $(KNOWN) MAKE% -%,$(GIVEN)))
CLOSEST = $(shell $(PYTHON) -c 'import difflib, sys; a, *b = sys.argv[1:]; print(*difflib.get_close_matches(a.upper(), b, 1))' $(UNKNOWN) $(KNOWN))
ifdef UNKNOWN
$(error no variable $(UNKNOWN)$(if $(CLOSEST),: did you mean $(CLOSEST)?,: there are $(KNOWN)))
endif
quoted = '$(subst ','\'',$(value $1))'
option = --$(shell echo $1 | tr A-Z_ a-z-) $(call quoted,$1)
# for each variable that is set; unset ones take the command line's defaults
options = $(foreach v,$1,$(if $(value $v),$(call option,$v)))

.PHONY: help setup sweep test test-slow lint format docs bench bench-gpu clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables of make sweep: $(VARIABLES)"

setup: $(BIN)/.installed ## create .venv and install what a sweep needs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed: make PYTHON=python3.12 …" >&2; exit 2; }
	@echo "creating .venv" && $(PYTHON) -m venv .venv

$(BIN)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing (some minutes the first time)" && $(PIP) --editable . && touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	@echo "installing the tools of the tests" && $(PIP) --editable '.[test,lint,bench]' && touch $@

$(BIN)/.installed-docs: $(BIN)/.installed
	@$(PIP) --editable '.[docs]' && touch $@

$(BIN)/.installed-peers: $(BIN)/.installed-dev
	@$(PIP) --editable '.[bench-gpu]' && touch $@

sweep: $(BIN)/.installed ## learn a dictionary for every K and write its report.html
	@swept=$$(mktemp) && trap 'rm -f "$$swept"' EXIT \
	&& $(BIN)/python -m pipeline sweep $(call options,$(VARIABLES) $(FORMER)) --swept "$$swept" \
	&& $(BIN)/python -m analysis report --only-stale \
	$(call options,DATASET DATA MEMORY EXPERIMENT) --swept "$$swept"

# A process more than there are cores, as many tests wait for others, four at most: each takes up to 1 GiB.
# One that is done takes tests of others.
SIDE_BY_SIDE := --numprocesses $$((1 + $$(getconf _NPROCESSORS_ONLN))) --maxprocesses 4 --dist worksteal
# BLAS has one thread: those of several processes spin while they wait for one another.
test: $(BIN)/.installed-dev ## run the tests
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-slow: $(BIN)/.installed-dev ## run the long tests too
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "slow or not slow"

lint: $(BIN)/.installed-dev ## check style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(BIN)/.installed-dev ## mend style where it can be done by itself
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: $(BIN)/.installed-docs ## build the documentation, build/docs/index.html
	@$(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going --quiet --conf-dir docs . build/docs
	@echo build/docs/index.html

bench: $(BIN)/.installed-dev ## measure against peers and print the table
	@$(BIN)/python -m tests.benchmarks

bench-gpu: $(BIN)/.installed-peers ## measure on a CUDA GPU and print the tables; BENCH=--quick
	@$(BIN)/python -m tests.benchmarks.gpu $(BENCH)

clean: ## remove .venv and caches; never data or runs
	rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find $(wildcard storage pipeline analysis tests) -name __pycache__ -type d -prune -exec rm -rf {} +
