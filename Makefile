# The project's commands. Prerequisites: Python 3.11 or newer, make, git.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
EDITABLE := $(VENV)/.stamp-editable
SEEDS ?= 50
TESTS ?= tests
COUNT ?= 3000
PYTEST_ARGS ?=
COMPILE_ARGS ?=
LOCK := $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header \
	--universal --python-version 3.11

.PHONY: help setup compile demo up down test cable check sim histories bench proto proto-check proto-baseline \
	requirements clean

help: ## Show these targets.
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: compile ## Make the private environment in .venv, compile the planner (both once).

$(STAMP): requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

$(EDITABLE): pyproject.toml $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

compile: $(EDITABLE) ## Compile the planner anew if its sources changed; SOV_COMPILED=0 leaves it.
	@$(BIN)/python -W ignore -m deploy.compile $(COMPILE_ARGS)

demo: setup ## Run the whole story on this machine, then stop everything.
	$(BIN)/python -m deploy.local demo

up: setup ## Start a local cluster and leave it running.
	$(BIN)/python -m deploy.local up

down: setup ## Stop the local cluster.
	$(BIN)/python -m deploy.local down

test: setup ## Run every test, or make test TESTS=tests/core; REQUIRE_SERVICES=1 makes a skip a failure.
	$(BIN)/python -m pytest -q $(TESTS) $(PYTEST_ARGS)

cable: setup ## The same with nothing but loopback, as root: make cable TESTS=tests/e2e
	unshare --net -- $(SHELL) -c 'ip link set lo up && exec "$$@"' cable \
		$(BIN)/python -m pytest -q $(TESTS) $(PYTEST_ARGS)

sim: setup ## Simulate the control plane under faults: make sim SEEDS=50
	$(BIN)/python -m tests.sim --seeds $(SEEDS)

histories: setup ## Compare plans with plans from scratch over random histories: COUNT=3000
	$(BIN)/python -m tests.histories --count $(COUNT)

bench: setup ## Measure, and enforce the floors in bench/limits.toml.
	$(BIN)/python -m bench

check: setup ## Lint, format, types, import layers, generated code, wire compatibility.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m contract_check generated
	$(BIN)/python -m contract_check compatible

proto: setup ## Generate the Python code of the wire contract.
	$(BIN)/python -m contract_check generate

proto-check: setup ## Fail when generated code or the wire contract is out of step.
	$(BIN)/python -m contract_check generated
	$(BIN)/python -m contract_check compatible

proto-baseline: setup ## Bless additions to the wire contract.
	$(BIN)/python -m contract_check bless

requirements: setup ## Compile requirements/*.in again.
	$(LOCK) requirements/dev.in -o requirements/dev.txt
	for set in client scheduler agent; do \
		$(LOCK) -c requirements/dev.txt requirements/$$set.in -o requirements/$$set.txt; done

clean: ## Remove the environment and caches.
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
