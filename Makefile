# make demo and make test set everything up from nothing; the environment is made once and made again when its pins change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2

.PHONY: demo test fast check lowest clean

demo: $(READY)
	$(BIN)/ratchet demo

test: check
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

fast: check
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev]"
	touch $(READY)

# The oldest libraries that pyproject.toml allows, in an environment of their own; pip takes the newest of all that is not named.
lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt torch
	$(VENV)-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable ".[all,dev]"
	$(VENV)-lowest/bin/python -m pytest -q -n $(WORKERS) --dist loadfile tests/finetune tests/documents tests/test_finetune_setup.py

clean:
	rm -rf $(VENV) $(VENV)-lowest ratchet-demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
