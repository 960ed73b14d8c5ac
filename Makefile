# Everything starts here: `make serve` to run Footfall, `make test` to check it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve test screenshots test-timed check bench tracker services containers crash crash-cluster fuzz lock clean

serve: $(VENV)/.installed ## install into .venv and run the whole system on this machine
	@exec $(BIN)/footfall serve

test: check ## install, lint, type-check and pass the tests
	$(BIN)/pytest -n 2 --dist loadgroup

test-timed: $(VENV)/.installed-dev ## the tests that measure time, which assert it then; on a machine that does nothing else
	FOOTFALL_TEST_TIMED=1 $(BIN)/pytest tests/fault/test_bad_clients.py tests/integration/test_serve.py \
		tests/integration/test_collecting.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev ## run the benchmarks and print their tables
	$(BIN)/python -m bench

tracker: $(VENV)/.installed-dev ## make /script.js of tracker/footfall.js
	$(BIN)/python tracker/build.py

RUNS ?= 1000
crash: $(VENV)/.installed-dev ## kill at every system call, then RUNS times each part at random, and check what is written
	PYTHONPATH=tests $(BIN)/python -m crash --runs $(RUNS)

MINUTES ?= 5
BROKER ?= kafka
crash-cluster: $(VENV)/.installed-dev ## kill and pause services of many machines, and their broker, at random
	PYTHONPATH=tests $(BIN)/python -m crash.cluster --broker $(BROKER) --minutes $(MINUTES)

fuzz: $(VENV)/.installed-dev ## send requests by chance for MINUTES, and hold each answer and the ledger against what was sent
	PYTHONPATH=tests $(BIN)/python -m security --minutes $(MINUTES)

services: ## what the full test run needs beyond Python: Debian packages, Kafka, RabbitMQ
	deploy/services

containers: ## build the images, and count a hit through the whole of deploy/compose.yaml (Debian, as root)
	deploy/containers

screenshots: $(VENV)/.installed-dev ## make the pictures in docs/images again (needs chromium)
	PYTHONPATH=tests $(BIN)/python tools/screenshots.py

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --quiet --group build
lock: ## refresh requirements*.txt from pyproject.toml (needs uv)
	$(LOCK) -o requirements.txt pyproject.toml
	$(LOCK) --all-extras -c requirements.txt -o requirements-extras.txt pyproject.toml
	$(LOCK) --all-extras --group dev -c requirements-extras.txt -o requirements-dev.txt pyproject.toml

clean:
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Footfall needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The build backend is in the lock too, so that the install asks for nothing that is not pinned.
$(VENV)/.installed: $(BIN)/python requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@
