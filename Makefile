# Two commands for a new user: `make tune` and `make test`. Everything is set up in .venv.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
READY := $(VENV)/.ready

.PHONY: tune test lint clean

# Installs once; again only when the requirements change. The link lets mypy see the root as phase8_tune.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	mkdir -p $(VENV)/mypy_path && ln -sfn ../.. $(VENV)/mypy_path/phase8_tune
	touch $(READY)

tune: $(READY)
	$(BIN)/phase8-tune --vram 8GB

test: $(READY)
	$(BIN)/python -m pytest -n 2

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
