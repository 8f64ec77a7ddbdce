# `make help` lists what there is. VENV=<folder> uses another virtual environment.
VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.setup-done
FASHION := /usr/share/datasets/fashion-mnist
TESTS ?=
# Where it is set, every command line and every run of the tests would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo import-demo test test-all lint docs bench ablate compare portability emulate torture clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | expand -t 12

setup: $(STAMP) ## virtual environment with the tested versions, and Fashion-MNIST (3 minutes, 6 GB)

$(STAMP): pyproject.toml constraints.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -c constraints.txt -e '.[dev]'
	@if [ ! -d $(FASHION) ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get install -y -qq dataset-fashion-mnist >/dev/null 2>&1 \
	  || { apt-get update -qq && apt-get install -y -qq dataset-fashion-mnist >/dev/null; } \
	  || echo "no Debian package dataset-fashion-mnist here: the demo will download Fashion-MNIST"; \
	fi
	@touch $@

demo: setup ## the whole pipeline on this CPU with Fashion-MNIST; prints where the report is
	@$(RUN) -m spaceevo.pipeline experiment=demo $(if $(runtime),runtime=$(runtime) name=demo-$(runtime)) $$([ -d $(FASHION) ] || echo data.download=true)

import-demo: setup ## a supernet in the authors' format, trained here, imported as a start for 500 other images, against none
	@$(RUN) tests/import_demo.py runs/import-demo

test: setup ## the fast tests, of always the same random examples
	HYPOTHESIS_PROFILE=same OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist worksteal -m 'not slow' $(TESTS)

test-all: setup ## all tests, of new random examples every time
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist worksteal $(TESTS)

lint: setup ## ruff, mypy, and which room may import which
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo

docs: setup ## the documentation into site/; any warning ends it
	@NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(RUN) -m mkdocs build --strict && echo "$(CURDIR)/site/index.html"

bench: setup ## the fast versions against the plain ones, in one run
	@$(RUN) tests/bench.py
	@OMP_NUM_THREADS=1 $(RUN) tests/bench_evolution.py

ablate: setup ## what learning the quantizers brings, what symmetric activations cost, what a start is worth; after a `make demo`
	@$(RUN) tests/ablate_lsq.py runs/demo
	@$(RUN) tests/ablate_symmetric.py runs/demo
	@$(RUN) tests/ablate_finetune.py runs/demo

compare: demo ## the demo, then standard networks trained as long as it took a model, beside its models
	@$(RUN) -m spaceevo.baseline experiment=demo

IMAGES ?= 500
portability: setup ## the models of a finished `make demo` in runtimes it does not ship for (IMAGES=500): labels, output steps
	@$(RUN) tests/portability.py runs/demo --images $(IMAGES)

CPUS ?= cortex-a76 haswell
emulate: setup ## every block type on emulated CPUs against the reference's integers; skipped, with why, where that cannot be
	@OMP_NUM_THREADS=1 $(RUN) tests/emulate.py $(CPUS)

KILLS ?= 100
SEED ?= 0
torture: setup ## KILLS signals at random moments of a tiny run, and a disk that fills in every step: the same bytes? (an hour)
	@$(RUN) tests/torture.py --kills $(KILLS) --seed $(SEED)

clean: ## remove runs and caches; the virtual environment stays
	rm -rf runs outputs multirun build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
