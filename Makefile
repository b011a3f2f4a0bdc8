# SPDX-License-Identifier: Apache-2.0
#
# Each target sets up by itself what it needs; see tools/setup.sh. Prerequisites: make and python3 >= 3.11.

.DEFAULT_GOAL := help
.PHONY: help setup compiled test-compiled demo demo-fmv test bench bench-compare soak fuzz lint lab-full clean

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

demo-fmv: ## a video goes live over SATCOM that is cut and over a slow radio, then both archives fill; ends with pictures
	@tools/setup.sh video
	@$(BIN)/python netns-lab/lab run demo_fmv

test: ## all tests: unit, simulation and interoperation in parallel, lab and bench one by one
	@tools/setup.sh test
	@$(PYTEST) -n 2 tests/unit tests/sim tests/fuzz tests/interop
	@$(PYTEST) tests/lab tests/bench

bench: ## the benchmarks at full length: tables, targets, ratios to a bare TCP copy and to dd, JSON
	@tools/setup.sh video
	@$(BIN)/python -m tests.bench.all

bench-compare: ## the same, and what changed against tests/bench/BASELINE.json
	@tools/setup.sh video
	@$(BIN)/python -m tests.bench.all --compare

# Of `make soak`: how long.
MINUTES ?= 20

soak: ## half the maximum rate through one durable node; MINUTES=... of real time, has to stay flat
	@tools/setup.sh demo
	@$(BIN)/python -m tests.bench.soak --minutes $(MINUTES)

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

compiled: ## meshd with its hot modules as machine code, in build/compiled; needs a C compiler
	@tools/setup.sh compile
	@$(BIN)/python tools/compile.py

# Of `make test-compiled`: the tests of what is compiled, and of what leans on it.
COMPILED_TESTS := $(addprefix tests/unit/,bundle cl node routing store)

test-compiled: compiled ## the unit tests of the core against the compiled form
	@PYTHONPATH=build/compiled:. PYTHONSAFEPATH=1 $(PYTEST) -n 2 -o pythonpath="build/compiled . netns-lab" $(COMPILED_TESTS)

lab-full: ## long tables outside of CI: seeds, a virtual day, routing beside an oracle, 1 000 kill -9, FLASH during 1 GiB, radio links, silence, video, order of links, every scenario
	@tools/setup.sh test
	@MESHD_SIM_SEEDS=0-1999 $(PYTEST) -q -n 2 tests/sim/test_core_simulation.py
	@MESHD_STORE_SEEDS=0-9999 $(PYTEST) -q -n 2 tests/unit/store/test_crashes.py
	@$(BIN)/python -m tests.sim.day_run --hours 24 --seed 1
	@$(BIN)/python -m tests.sim.routing_table --seeds 0-9
	@$(BIN)/python -m tests.lab.kill9_run --kills 1000 --messages 20000 --bearers 2 --seed 1
	@$(BIN)/python -m tests.lab.overtake_run --mib 1024 --rate 200
	@$(BIN)/python -m tests.lab.radio_run
	@$(BIN)/python -m tests.lab.silence_run
	@tools/setup.sh video
	@$(BIN)/python -m tests.lab.video_run
	@$(BIN)/python netns-lab/lab run tests/lab/scenarios/predicted_order.py full
	@$(BIN)/python -m tests.interop.peers_run
	@$(BIN)/python netns-lab/lab run --all

clean: ## what the targets above left behind
	@rm -rf .venv .setup.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
