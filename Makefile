# Everything a person or CI does here, one word each. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-slow check lint types lock clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Installed anew only when the lock or the project's own description changed.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed; name one with: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/installed  ## Draw videos, run the whole chain on them, show scores and the report
	$(BIN)/factseg demo

test: test-fast test-slow  ## All tests, fast then slow

test-fast: .venv/installed  ## Tests that take seconds
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/installed  ## Tests that take minutes: real servers, the whole chain
	$(BIN)/python -m pytest -m slow

check: lint types test-fast  ## Lint, types and fast tests

lint: .venv/installed  ## Style by ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed  ## Types by mypy
	$(BIN)/mypy

lock:  ## Resolve the dependencies anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --upgrade pyproject.toml --group dev --output-file requirements.lock

clean:  ## Remove the environment and caches; stores stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
