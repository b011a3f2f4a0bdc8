# SPDX-License-Identifier: Apache-2.0
#
# Each target sets up by itself what it needs; see tools/setup.sh. Prerequisites: make and python3 >= 3.11.

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench fuzz lint lab-full clean

PYTHON ?= python3 python3.13 python3.12 python3.11
export PYTHON
# Of `make demo`; by way of the environment, so that a name may hold any character.
export FILE
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile

setup: ## the virtual environment and tools, nothing else
	@tools/setup.sh venv

demo: ## three daemons carry a file across a cut link and one falls silent; FILE=... sends your own
	@tools/setup.sh demo
	@$(BIN)/python netns-lab/lab run demo $${FILE:+--file "$$FILE"}

test: ## all tests: unit and simulation in parallel, lab and bench one by one
	@tools/setup.sh test
	@$(PYTEST) -n 2 tests/unit tests/sim tests/fuzz
	@$(PYTEST) tests/interop tests/lab tests/bench

bench: ## the benchmarks at full length
	@tools/setup.sh demo
	@for script in tests/bench/[!_]*.py; do \
		case $$script in */test_*) continue ;; esac; \
		echo "== $$script"; $(BIN)/python $$script || exit 1; \
	done

# Of `make fuzz`: how long for each target.
SECONDS ?= 20

fuzz: ## every way into meshd under a fuzzer, two at a time; SECONDS=... for each of them
	@tools/setup.sh fuzz
	@$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)

lint: ## style, types and the direction of imports
	@tools/setup.sh lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

lab-full: ## long tables outside of CI: 2 000 seeds, 200 kill -9, every scenario of the lab
	@tools/setup.sh test
	@MESHD_SIM_SEEDS=0-1999 $(PYTEST) -q -n 2 tests/sim/test_core_simulation.py
	@$(BIN)/python -m tests.lab.kill9_run --kills 200 --messages 2000 --seed 1
	@$(BIN)/python netns-lab/lab run --all

clean: ## what the targets above left behind
	@rm -rf .venv .setup.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
