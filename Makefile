# Every target works alone on a fresh machine with git, make and Python 3.11 or newer.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

# The first of these that is there and new enough; a name on the PATH may be a shim that leads nowhere.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "caviar needs Python 3.11 or newer; none was found on the PATH" >&2; exit 2; }
	@echo "setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(VENV)/installed ## make .venv and install the project with exact versions

search: setup ## tune a network for the digits data in a minute, on a local Ray cluster
	@$(BIN)/caviar search digits --time 60s

lint: setup ## run ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

$(VENV)/tools: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,tools]'
	@touch $@

# What starts Ray, or kills processes at moments that count, has the machine to itself.
# COVERAGE=1 measures which lines the first part runs. On Python 3.11 tests of pure Python take twice
# as long with it; from 3.12 on, COVERAGE_CORE=sysmon costs little.
COVER := $(if $(COVERAGE),--cov=orchestrator --cov=trainers --cov=pipelines --cov=caviar --cov-report=)
test: $(VENV)/tools ## all tests (COVERAGE=1 prints the share of lines that those without Ray run)
	@$(BIN)/python -m pytest -n logical --dist worksteal -m "not (ray or faults or cluster)" $(COVER)
	@$(if $(COVERAGE),echo "coverage without Ray: $$($(BIN)/coverage report --format=total) % of the lines")
	@$(BIN)/python -m pytest -m "(ray or faults) and not cluster"

test-fast: setup ## run the quick tests: no Ray, no killed processes, no hosts, no slow ones
	@$(BIN)/python -m pytest -m "not ray and not slow and not faults and not cluster"

test-faults: setup ## run the tests that kill processes and fill disks, at every point and many times (30 min)
	@$(BIN)/python -m pytest -m faults --often

# Both fuzz tests at once, one on each of two cores.
test-fuzz: setup ## run the tests that write hostile specs, tables and models, many times (10 min)
	@$(BIN)/python -m pytest --often -n 2 tests/pipelines/runs/test_fuzz_*.py

test-cluster: setup ## run a search over three real hosts that fail, on this machine (4 min; needs root)
	@$(BIN)/python -m pytest -m cluster tests/cluster

check: lint test ## run lint and test; they must pass before every commit

$(VENV)/benchmarks: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

bench-trainer: $(VENV)/benchmarks ## measure a training step against PyTorch, JAX, scikit-learn (7 min; ARGS="--json FILE --mnist DIR")
	@$(BIN)/python benchmarks/training_step.py $(ARGS)

# The folder that holds searchbench/, or searchbench itself.
SEARCHBENCH ?= ..
NOISE ?= 0
bench-search: $(VENV)/benchmarks ## measure the search on LCBench beside the recorded peers (3 min; SEARCHBENCH=FOLDER NOISE=1)
	@BIN=$(BIN) benchmarks/lcbench.sh "$(SEARCHBENCH)" "$(NOISE)" $(ARGS)

bench-scale: setup ## measure the search alone with 10,000 workers and a million trials, in virtual time (10 min)
	@$(BIN)/python -m benchmarks.scale $(ARGS)

bench-dispatch: setup ## the pool's decisions for up to 10,000 workers, in virtual time (1 min)
	@$(BIN)/python -m benchmarks.dispatch $(ARGS)

bench-orchestration: $(VENV)/benchmarks ## what a run costs beside training, next to Ray Tune (12 min; ARGS="--json FILE")
	@$(BIN)/python -m benchmarks.orchestration $(ARGS)

bench-report: setup ## measure the page of a run of 10,000 trials: its size, and the time to make it (2 min)
	@$(BIN)/python -m benchmarks.report $(ARGS)

$(VENV)/audit: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,audit]'
	@touch $@

# Not part of `make check`: an advisory of today must not fail a commit that passed yesterday.
# With --strict, a package that could not be looked up fails the audit.
audit-dependencies: $(VENV)/audit ## look for known advisories about the versions in constraints.txt (needs the network)
	@$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement constraints.txt

format: setup ## let ruff fix and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: help setup search lint test test-fast test-faults test-fuzz test-cluster check bench-trainer bench-search bench-scale bench-dispatch bench-orchestration bench-report audit-dependencies format
