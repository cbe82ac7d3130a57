# Everything that is done with this project; `make help` says what.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST := $(RUN)/python -m pytest

.PHONY: help install demo up test lint format typecheck schema migration roles scenarios bench chaos spark-jars clean

help: ## What can be done
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Install what is needed into .venv, from uv.lock

$(INSTALLED): pyproject.toml uv.lock
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(RUN)/uv || $(RUN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.13,<1"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(RUN)/uv sync --frozen --extra spark --quiet --python $(RUN)/python
	@touch $@

demo: $(INSTALLED) ## The main job on real data, in the terminal
	@$(RUN)/autoloader demo

up: $(INSTALLED) ## Serve the API with the embedded stack; data stays in .autoloader
	@$(RUN)/autoloader up

spark-jars: $(INSTALLED) ## Fetch what Spark needs beside itself from Maven Central, once for all checkouts
	@$(RUN)/autoloader spark jars

test: lint ## All checks and the whole test-suite
	$(PYTEST) -n auto --dist worksteal tests

lint: $(INSTALLED) ## Formatting, style, types, layers, schema and its changes, migrations, roles, deploy/
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/lint-imports --no-cache
	$(RUN)/autoloader schema export --check
	$(RUN)/python -m tools.schema_changes
	$(RUN)/python -m tools.migration --check
	$(RUN)/python -m tools.roles --check
	$(RUN)/hadolint deploy/Dockerfile
	$(RUN)/python -m tools.deployments

format: $(INSTALLED) ## Put the code into shape
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

typecheck: $(INSTALLED) ## Types only
	$(RUN)/mypy

schema: $(INSTALLED) ## Write schema.graphql
	$(RUN)/autoloader schema export

migration: $(INSTALLED) ## Write the migration that the tables ask for: make migration m="What changes"
	$(RUN)/python -m tools.migration "$(m)"

roles: $(INSTALLED) ## Write docs/roles.md, the role matrix
	$(RUN)/python -m tools.roles

scenarios: $(INSTALLED) ## The table of the 150 scenarios, done and missing
	@$(RUN)/python -m tools.scenarios

chaos: $(INSTALLED) ## Kill, freeze and starve real workers at every step, and compare the rows
	$(PYTEST) -q -p no:randomly --chaos tests/e2e/test_chaos.py

bench: $(INSTALLED) ## Timings, as ratios within one run
	$(RUN)/python -m benchmarks

clean: ## Remove what was installed and what was stored
	rm -rf $(VENV) .autoloader
