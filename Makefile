# Everything a developer needs; each target does its own set-up. Needs Python 3.11 or newer, make and a package index.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python3.13; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: chaos install demo test lint format bench soak clean fuzz sbom audit
.DEFAULT_GOAL := install

install: $(INSTALLED)  ## a .venv with the project and its developer's tools

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "linewatch needs Python 3.11 or newer with venv: install it, or name it: make PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: install  ## watch a synthetic factory for a minute, then print what happened
	$(BIN)/linewatch demo

JOBS ?= 2
test: install  ## unit, property and system tests, with coverage, JOBS=2 files at a time
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --cov --cov-report=term:skip-covered $(TESTS)

lint: install  ## format, lint, types and the import contract, as CI checks them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install  ## overhead, accuracy and promises on this machine; see benchmarks/README.md
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/promises.py

FAULTS ?= 500
SEED ?= 0
chaos: install  ## hurt a running plant FAULTS=500 times by SEED=0, see whether a promise breaks; see docs/reliability.md
	$(BIN)/python -m tests.chaos --faults $(FAULTS) --seed $(SEED)

MINUTES ?= 60
soak: install  ## an hour of full load (MINUTES=60), at the end of which nothing may have grown; see docs/reliability.md
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

INPUTS ?= 1000000
fuzz: install  ## hostile messages against the wire and a worker: make fuzz [INPUTS=1000000] [SEED=0]
	$(BIN)/python -m tests.fuzz --inputs $(INPUTS) --seed $(SEED)

sbom: install  ## what is installed, as CycloneDX: var/sbom.json; needs no network
	$(BIN)/python .ci/sbom.py var/sbom.json

audit: install  ## whether anything installed has a known vulnerability; needs the network
	$(BIN)/python .ci/audit.py

clean:
	rm -rf .venv .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
