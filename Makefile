# Everything a person or CI does here, one word each. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-slow ops-test oldest-test browser postgresql check lint types lock clean
# Two test processes; a file's tests stay in one, in order. One thread each: spinning threads of two pools cost more
# than they give. Tests with many processes of their own run alone.
ALONE := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest
PYTEST := $(ALONE) -n 2 --dist loadfile

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Installed anew only when the lock or the project's own description changed. The lock is complete, so nothing is left to
# resolve: older versions of pip, resolving, overlook the pin of a package that is also asked for with an extra.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed; name one with: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		--requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/installed  ## Draw videos, run the whole chain on them, show scores and the report
	$(BIN)/factseg demo

test: browser postgresql test-fast test-slow  ## All tests, fast then slow

test-fast: .venv/installed  ## Tests that take seconds
	$(PYTEST) -m "not slow"

test-slow: .venv/installed  ## Tests that take minutes: real servers, the whole chain
	$(PYTEST) -m "slow and not ops"
	$(ALONE) tests/flows/test_services.py

ops-test: .venv/installed postgresql  ## Real parts: twenty runs on PostgreSQL, a database that goes, a Ray cluster
	$(ALONE) -m ops

# CI tests what the lock has. This takes the oldest torch that pyproject.toml promises, which many GPU machines have.
OLDEST := $(shell sed -nE 's/^ *"(torch|torchvision)>=([0-9.]+)",/\1==\2/p' pyproject.toml)
oldest-test:  ## Fast tests of all but the flows with the oldest torch, in an environment of its own
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		--requirement requirements.lock
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check $(OLDEST)
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(subst $(BIN),.venv-oldest/bin,$(PYTEST)) -m "not slow" tests/fact tests/pipeline tests/storage

# What the tests need of the system; where it cannot be installed, those tests are skipped and say so.
browser:
	@command -v chromedriver > /dev/null || (apt-get update && apt-get install --yes chromium chromium-driver) > /dev/null 2>&1 \
		|| echo "Chromium could not be installed: tests of pages in a browser are skipped." >&2

postgresql:
	@ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1 || (apt-get update && apt-get install --yes postgresql) > /dev/null 2>&1 \
		|| echo "PostgreSQL could not be installed: tests of a server on it are skipped." >&2

check: lint types test-fast  ## Lint, types and fast tests

lint: .venv/installed  ## Style by ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed  ## Types by mypy
	$(BIN)/mypy

lock:  ## Resolve the dependencies anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --upgrade pyproject.toml --all-extras --group dev --output-file requirements.lock

clean:  ## Remove the environment and caches; stores stay
	rm -rf .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
