# Everything here works on a machine with Python 3.11 or newer and make. uv is used where it is there, else venv and pip.
# PYTHON=python3.13 chooses another interpreter.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test check fmt lint type lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: $(STAMP) ## set up .venv with the locked versions

$(STAMP): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=/path/to/python")'
	@if command -v uv >/dev/null 2>&1; then \
	    uv venv --quiet --clear --python $(PYTHON) $(VENV) && \
	    uv pip install --quiet --python $(BIN)/python --require-hashes -r $(LOCK) && \
	    uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	    $(PYTHON) -m venv --clear $(VENV) && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK) && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi
	@touch $@

run: install ## a local Lambda with a sample function, this extension and three local backends
	@$(BIN)/telemetry-forwarder demo

test: install ## the whole test suite
	$(BIN)/python -m pytest

check: fmt-check lint type test ## what continuous integration runs

.PHONY: fmt-check
fmt: install ## format the code
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

fmt-check: install
	$(BIN)/ruff format --check .

lint: install ## lint the code
	$(BIN)/ruff check .

type: install ## check the types (mypy, strict)
	$(BIN)/mypy

lock: ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra local --extra dev \
	    --no-annotate --no-header --upgrade pyproject.toml -o $(LOCK)

clean: ## remove what was built
	rm -rf $(VENV) .venv-sam build dist .aws-sam
