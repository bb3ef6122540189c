# Two commands set everything up: `make demo` and `make test`. A second run skips what is done.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint bench bench-parts ui clean

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

# Functions, and commands inside the test process: minutes.
test: .venv/test.done
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/unit tests/integration

# Also servers, clusters, browsers, killed processes, and searches that train for seconds.
test-all: .venv/test.done
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

lint: .venv/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tables of benchmarks/README.md: a search compared with others, then the cost of its parts.
bench: .venv/test.done
	$(BIN)/python benchmarks/warm.py
	$(BIN)/python benchmarks/versus.py

bench-parts: .venv/test.done
	$(BIN)/python benchmarks/search_overhead.py
	$(BIN)/python benchmarks/pruning.py
	$(BIN)/python benchmarks/speedups.py

ui: .venv/demo.done
	$(BIN)/tunewright ui

clean:
	rm -rf .venv build dist
