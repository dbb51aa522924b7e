# Two commands for a new user: `make tune` and `make test`. Everything is set up in .venv.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The first interpreter of a version that the package supports; or name one: make PYTHON=python3.12
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
VRAM ?= 8GB

.PHONY: tune test quick lint clean

# Installs once; again only when the requirements change. The link lets mypy see the root as phase8_tune.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: expected Python 3.11 to 3.13 with its venv module on the PATH, \
	found none; install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	mkdir -p $(VENV)/mypy_path && ln -sfn ../.. $(VENV)/mypy_path/phase8_tune
	touch $(READY)

tune: $(READY)
	$(BIN)/phase8-tune --vram $(VRAM)

test: $(READY)
	$(BIN)/python -m pytest -n 2

# What most changes break, in under two minutes: no worker, no tracing, no kernel under the interpreter.
quick: $(READY)
	$(BIN)/python -m pytest -n 2 -q -m "not slow"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
