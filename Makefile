# A newcomer needs Python 3.11 and make: each target brings the rest, pinned and hashed, into .venv.
# `make VENV=.venv-3.13 PYTHON=python3.13 test-fast` does the same with another Python.

PYTHON ?= python3
VENV ?= .venv
UV ?= uv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
# Stamps: a lock is installed once, and again when it or pyproject.toml changes.
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
IN_MEMORY := $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 2000000 ] 2>/dev/null && echo TMPDIR=/dev/shm)

FAST = $(IN_MEMORY) $(BIN)/python -m pytest -m "not slow" --ignore tests/end_to_end -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

.PHONY: demo test test-fast laws coverage lint lock release bench bench-smoke bench-dlt docs clean

# The whole story against a simulated tenant: no Adobe account, no server, ends by itself.
demo: $(RUNTIME)
	$(BIN)/product-sync demo

# One worker more than there are cores: some tests wait for a clock or a process, and leave theirs idle. One
# that is done takes over tests of another: a third of the suite waits, and lies together in one folder.
# Files lie in memory where there are 2 GB: on a disk, to make those of a database costs as much as its queries.
test: $(DEV)
	$(IN_MEMORY) $(BIN)/python -m pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

# While you work: what needs no database server, no process of its own and at most 2 seconds a test.
test-fast: $(DEV)
	$(FAST)

# The tests of properties, with other examples each time; a failing example is made small and printed.
laws: $(DEV)
	$(IN_MEMORY) $(BIN)/python -m pytest --hypothesis-profile laws -m hypothesis -n $$(getconf _NPROCESSORS_ONLN) --dist worksteal

# The lines that no fast test runs; fails below the share in pyproject.toml. Python 3.12 and newer measure almost for
# nothing, 3.11 needs 1.7 times the CPU.
coverage: $(DEV)
	COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
	  $(FAST) $(WITHOUT) --cov --cov-report=term

# Writes the tables of the data dictionary from sync/db/schema.py, and what other tools read from a copy.
docs: $(DEV)
	$(BIN)/python -m tests.data_dictionary
	$(BIN)/python -W ignore -m tests.consumer_matrix

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Each target of the design next to its floor, 100,000 products: about half an hour.
bench: $(DEV)
	$(BIN)/python -m benchmarks

# What CI runs: function calls and statements a page, and how many requests an idle run makes.
bench-smoke: $(DEV)
	$(BIN)/python -m benchmarks --size smoke --json $(VENV)/bench-smoke.json

# The same work done by dlt's rest_api source, in an environment of its own.
bench-dlt: $(DEV)
	$(BIN)/python -m benchmarks.compare_dlt

# Keeps the versions pinned today; `make lock UPGRADE=--upgrade` moves them. Needs uv on PATH: `pip install uv`.
# The development lock first: it has the most to agree on, and the others take their pins from it.
lock:
	$(COMPILE) $(UPGRADE) --group dev --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) $(UPGRADE) --group build --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml
	$(COMPILE) $(UPGRADE) --group release --constraint requirements.lock --output-file requirements-release.lock pyproject.toml
	$(COMPILE) $(UPGRADE) --output-file benchmarks/requirements-dlt.lock benchmarks/requirements-dlt.in

# Sdist, wheel, SBOM and the changelog's section into dist/, each built twice and tried. Publishes nothing; tag by hand.
release: .venv-release/.installed
	BIN=.venv-release/bin .ci/release

clean:
	rm -rf .venv .venv-* dist .coverage .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) --require-hashes --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

# The development lock holds every pin of requirements.lock, so it installs both.
$(DEV): requirements-dev.lock pyproject.toml | $(BIN)/python
	$(PIP) --require-hashes --requirement requirements-dev.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $(RUNTIME) $@

.venv-release/.installed: requirements-release.lock
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --requirement requirements-release.lock
	touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "product-sync needs Python 3.11 or newer, and '$(PYTHON)' is not: try 'make PYTHON=python3.12 ...'" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
