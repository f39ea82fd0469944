# A newcomer needs Python 3.11 and make: each target brings the rest, pinned and hashed, into .venv.

PYTHON ?= python3
UV ?= uv
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
# Stamps: a lock is installed once, and again when it or pyproject.toml changes.
RUNTIME := .venv/.runtime-installed
DEV := .venv/.dev-installed
IN_MEMORY := $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 2000000 ] 2>/dev/null && echo TMPDIR=/dev/shm)

.PHONY: demo test test-fast lint lock bench bench-smoke bench-dlt clean

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
	$(IN_MEMORY) $(BIN)/python -m pytest -m "not slow" --ignore tests/end_to_end -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

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
	$(BIN)/python -m benchmarks --size smoke --json .venv/bench-smoke.json

# The same work done by dlt's rest_api source, in an environment of its own.
bench-dlt: $(DEV)
	$(BIN)/python -m benchmarks.compare_dlt

# Keeps the versions pinned today; `make lock UPGRADE=--upgrade` moves them. Needs uv on PATH: `pip install uv`.
lock:
	$(COMPILE) $(UPGRADE) --group build --output-file requirements.lock pyproject.toml
	$(COMPILE) $(UPGRADE) --group dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) $(UPGRADE) --output-file benchmarks/requirements-dlt.lock benchmarks/requirements-dlt.in

clean:
	rm -rf .venv dist .hypothesis .mypy_cache .ruff_cache .import_linter_cache
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

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "product-sync needs Python 3.11 or newer, and '$(PYTHON)' is not: try 'make PYTHON=python3.12 ...'" >&2; exit 1; }
	$(PYTHON) -m venv .venv
