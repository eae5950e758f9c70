# Thin: each target makes the environment, then runs the command that the README names beside it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: demo generate test test-slow test-gpu bench lint env dev clean

# What was installed is remembered in two marks; a new pyproject.toml installs again.
$(VENV)/.demo: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.test: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $(VENV)/.demo $@

env: $(VENV)/.demo
dev: $(VENV)/.test

demo: $(VENV)/.demo
	$(BIN)/deploykit run recipes/quickstart.yaml

# The flags and the types of the public functions are made from deploykit/config.
generate: $(VENV)/.demo
	$(BIN)/python -m deploykit.cli.generate

# One process a core, files of tests kept together: what one file makes once is used by all its tests.
test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadfile -m 'not slow and not gpu and not bench' $(PYTEST_ARGS)

# Beside the slow tests, those of properties with other examples each time.
test-slow: $(VENV)/.test
	$(BIN)/python -m pytest --hypothesis-profile random -m '(slow or hypothesis) and not gpu and not bench' $(PYTEST_ARGS)

test-gpu: $(VENV)/.test
	$(BIN)/python -m pytest -m 'gpu and not bench' $(PYTEST_ARGS)

bench: $(VENV)/.test
	$(BIN)/python -m pytest -m bench -s tests/benchmarks $(if $(BENCH),-k $(BENCH)) $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
