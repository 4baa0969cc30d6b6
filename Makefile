# Every target makes what it needs; a fresh clone needs only Python 3.11+, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-pure tiled lint docs bench soak clean

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

# Three at a time, a file each: most tests wait for processes rather than compute. In their order,
# as those with few tests, which xdist would keep for the end, are the long ones, such as the soak.
test: venv test-pure  ## run all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# The floors below Tango promise to work without it, so they are tested where it is not installed.
.venv-pure/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-pure
	.venv-pure/bin/python -m pip install --quiet --disable-pip-version-check 'pydantic>=2.7' 'PyYAML>=6' 'jsonschema>=4.20' 'pytest>=8.2,<9.2' hypothesis
	@touch $@

# The server of Tiled needs another SQLAlchemy than Milonga does; tests start it from here.
.venv-tiled/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-tiled
	.venv-tiled/bin/python -m pip install --quiet --disable-pip-version-check 'tiled[server]>=0.2'
	@touch $@

tiled: .venv-tiled/.installed  ## make the Tiled server that tests use: MILONGA_TILED=.venv-tiled/bin/tiled make test

PURE := control_model tracking tasks

test-pure: .venv-pure/.installed  ## run the tests of the floors that need no Tango, without Tango
	! .venv-pure/bin/python -c 'import tango' 2>/dev/null
	PYTHONPATH=src .venv-pure/bin/python -m pytest $(PURE:%=tests/unit/%) $(PURE:%=src/milonga/%)

lint: venv  ## lint, strict types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: venv  ## write the reference and build the documentation's site into build/docs
	$(BIN)/python -m tools.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: venv  ## print the benchmarks: times, and ratios to a floor measured in the same run
	$(BIN)/python -m benchmarks.tracker
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.command
	$(BIN)/python -m benchmarks.records
	$(BIN)/python -m benchmarks.plans

soak: venv  ## run random faults against a system for twenty minutes
	$(BIN)/python -m benchmarks.soak --minutes 20

clean:  ## remove what the targets made
	rm -rf $(VENV) .venv-pure .venv-tiled build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
