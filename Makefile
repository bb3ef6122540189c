# Two commands set everything up: `make demo` and `make test`. A second run skips what is done.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench ui clean

# The first Python found by venv needs pip only here; every version comes from constraints.txt.
.venv/demo.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[demo]'
	touch $@

.venv/test.done: .venv/demo.done
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[demo,test]'
	touch $@

demo: .venv/demo.done
	$(BIN)/tunewright sweep demo

test: .venv/test.done
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

lint: .venv/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# More than an hour, never run as a whole yet; the tables of benchmarks/README.md.
bench: .venv/test.done
	$(BIN)/python benchmarks/search_overhead.py
	$(BIN)/python benchmarks/pruning.py
	$(BIN)/python benchmarks/warm.py
	$(BIN)/python benchmarks/versus.py

ui: .venv/demo.done
	$(BIN)/tunewright ui

clean:
	rm -rf .venv build dist
