# Thin: each target makes the environment, then runs the command that the README names beside it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: demo test test-slow test-gpu bench lint env dev clean

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@ $(VENV)/.demo

env: $(VENV)/.demo
dev: $(VENV)/.test

demo: $(VENV)/.demo
	$(BIN)/deploykit run recipes/quickstart.yaml

test: $(VENV)/.test
	$(BIN)/python -m pytest -m 'not slow and not gpu and not bench' $(PYTEST_ARGS)

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m 'slow and not gpu' $(PYTEST_ARGS)

test-gpu:
	python3 -m pytest -m gpu $(PYTEST_ARGS)

bench: $(VENV)/.test
	$(BIN)/python -m pytest -m bench -s tests/benchmarks $(if $(BENCH),-k $(BENCH)) $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
