# Every target makes what it needs; a fresh clone needs only Python 3.11+, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-pure lint bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort

venv: $(VENV)/.installed  ## make .venv with Milonga and everything for its development

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: venv  ## run a whole observation on real Tango device servers
	$(BIN)/milonga demo

test: venv test-pure  ## run all tests
	$(BIN)/python -m pytest

# The floors below Tango promise to work without it, so they are tested where it is not installed.
.venv-pure/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-pure
	.venv-pure/bin/python -m pip install --quiet --disable-pip-version-check 'pydantic>=2.7' 'PyYAML>=6' 'pytest>=8.2,<9.2' hypothesis
	@touch $@

PURE := control_model tracking tasks

test-pure: .venv-pure/.installed  ## run the tests of the floors that need no Tango, without Tango
	! .venv-pure/bin/python -c 'import tango' 2>/dev/null
	PYTHONPATH=src .venv-pure/bin/python -m pytest $(PURE:%=tests/unit/%) $(PURE:%=src/milonga/%)

lint: venv  ## lint, strict types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv  ## print the benchmarks: times, and ratios to a floor measured in the same run
	$(BIN)/python -m benchmarks.tracker
	$(BIN)/python -m benchmarks.command
	$(BIN)/python -m benchmarks.records

clean:  ## remove what the targets made
	rm -rf $(VENV) .venv-pure build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
