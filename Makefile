# `make demo`, `make check` and `make test` each work on a fresh clone: they create the virtual environment first.
# Another interpreter or environment: make test PYTHON=python3.12 VENV=/somewhere. Fewer tests: make test ARGS="-k tubes".
# In one process, to see what a test prints: make test WORKERS=0 ARGS="-s -k tubes".

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

ifeq ($(CI),true)
export PIP_NO_INPUT := 1
export PIP_PROGRESS_BAR := off
endif

# pip's editable install goes through an import hook, which type checkers do not follow; plain paths they do.
define WRITE_PATHS
import pathlib, sys, sysconfig
paths = "".join(f"{pathlib.Path(each).resolve()}\n" for each in sys.argv[1:])
pathlib.Path(sysconfig.get_path("purelib"), "yowo-deploy-paths.pth").write_text(paths)
endef
export WRITE_PATHS

.DEFAULT_GOAL := help
.PHONY: help venv demo check test docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(INSTALLED) ## create the virtual environment with everything a developer needs

$(INSTALLED): setup.cfg pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -c "$$WRITE_PATHS" . training export
	touch $@

demo: $(INSTALLED) ## train, export, compare, measure and detect, without data or GPU: about five minutes
	$(BIN)/yowo-deploy demo --output runs/demo

check: $(INSTALLED) ## style, types, and the tests of the architecture
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/python -m mypy --python-version 3.10 --no-warn-return-any --no-warn-unused-ignores
	$(BIN)/python -m pytest tests/architecture -m "not slow"

test: $(INSTALLED) ## every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

docs: $(INSTALLED) ## the documentation site, in build/site
	$(BIN)/python -m docs.site

clean: ## remove the virtual environment and what the tools wrote, but not runs/
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
