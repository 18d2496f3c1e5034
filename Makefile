# `make help` lists the targets. PYTHON chooses the interpreter, OUT where the demo writes, JOBS how many processes test.
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= demo-out
JOBS   ?= 2
BIN     = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench picture clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.run ## install, then optimise the bundled photographs into demo-out/
	$(BIN)/relatent demo $(OUT)

test: $(VENV)/.dev ## install what the tests need, then pass them
	$(BIN)/pytest -n $(JOBS) --dist loadfile --cov --cov-report=term:skip-covered

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/relatent
	MYPYPATH=$(VENV)/types $(BIN)/mypy -m relatent -p relatent.cli -p relatent.engine -p relatent.kernels -p relatent.exporters -p relatent.factory -p relatent.systems -p relatent.benchmarks

bench: $(VENV)/.dev ## the original loop beside the engine, quality and time, into benchmarks/results/
	$(BIN)/python -m relatent.benchmarks.bench_loop $(ARGS)

picture: $(VENV)/.run ## make the README's picture again
	$(BIN)/python examples/make_picture.py docs/images/comparison.png

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage .benchmarks *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "relatent needs Python 3.11 or newer, $(PYTHON) is older: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@# its dependencies exclude current numpy, transformers and huggingface-hub; the tests open its reader alone
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps mosaicml-streaming
	@touch $@ $(VENV)/.run
