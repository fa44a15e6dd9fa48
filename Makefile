# Two commands: `make demo` tunes a network on this machine, `make test` runs the tests.
# Both make .venv if it is not there; what is installed is renewed only when pyproject.toml changes.

PYTHON ?= python3
TRIALS ?= 48

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PLAIN := .venv/installed.stamp
DEV := .venv/installed-dev.stamp

.PHONY: demo test lint
.DELETE_ON_ERROR:

demo: $(PLAIN)
	$(BIN)/chameleon-ray tune resnet18 --trials $(TRIALS)

test: $(DEV)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("chameleon-ray needs Python 3.11 or newer: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

$(PLAIN): pyproject.toml | .venv/bin/python
	$(PIP) --editable .
	@touch $@

$(DEV): pyproject.toml | .venv/bin/python
	$(PIP) --editable '.[dev]'
	@touch $(PLAIN) $@
