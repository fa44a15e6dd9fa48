# `make demo` tunes a network on this machine, `make test` runs the tests; `make paper` makes the
# paper's figures and tables from recorded spaces, `make paper-cpu` from live runs on this CPU.
# All make .venv if it is not there; what is installed is renewed only when pyproject.toml changes.

PYTHON ?= python3
TRIALS ?= 48
SPACES ?=
SEEDS ?= 0-19
CPU_SEEDS ?= 0-4
MEASUREMENTS ?= 512
CPU_MEASUREMENTS ?= 128
TESTS_AT_ONCE := -n logical --maxprocesses 4 --dist loadfile # a test waits as long as it computes

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PLAIN := .venv/installed.stamp
DEV := .venv/installed-dev.stamp
PAPER := .venv/installed-paper.stamp

.PHONY: demo test lint paper paper-cpu
.DELETE_ON_ERROR:

demo: $(PLAIN)
	$(BIN)/chameleon-ray tune resnet18 --trials $(TRIALS)

test: $(DEV)
	$(BIN)/python -m pytest $(TESTS_AT_ONCE) $(PYTEST_ARGS)

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

paper: $(PAPER)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/paper.py $(SPACES) --seeds $(SEEDS) --trials $(MEASUREMENTS)

paper-cpu: $(PAPER)
	$(BIN)/python benchmarks/paper_cpu.py --seeds $(CPU_SEEDS) --trials $(CPU_MEASUREMENTS)

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("chameleon-ray needs Python 3.11 or newer: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

$(PLAIN): pyproject.toml | .venv/bin/python
	$(PIP) --editable .
	@touch $@

$(DEV): pyproject.toml | .venv/bin/python
	$(PIP) --editable '.[dev]'
	@touch $(PLAIN) $@

$(PAPER): pyproject.toml | .venv/bin/python
	$(PIP) --editable '.[peers,figures]'
	@touch $(PLAIN) $@
