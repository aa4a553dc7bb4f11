# Every target makes and uses its own virtual environment in .venv from the lock file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What runs a gateway, and no more: a sixth of what the tests need.
RUNTIME_LOCK := .ci/runtime.lock
RUNTIME_STAMP := $(VENV)/.runtime
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" pyproject.toml
# Not in the lock: it has wheels for some Pythons on Linux only, and `make fuzz` alone needs it.
ATHERIS := atheris==3.0.0

.PHONY: kit-memory dist demo dev test test-aioquic check format bench bench-check simulate mutate mutate-changed abuse faults scale soak house fuzz system-deps lock clean help

help: ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv $(VENV); } \
		|| { rm -rf $(VENV); echo "no virtual environment: install python3-venv or virtualenv" >&2; exit 1; }

$(RUNTIME_STAMP): $(RUNTIME_LOCK) pyproject.toml | $(BIN)/python
	@echo "installing what a gateway needs: $$(grep -c == $(RUNTIME_LOCK)) packages, once"
	@sh .ci/install.sh $(BIN)/python $(RUNTIME_LOCK)
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(STAMP): requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing what tests and benchmarks need: $$(grep -c == requirements.lock) packages, some minutes, once"
	@sh .ci/install.sh $(BIN)/python requirements.lock
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $(RUNTIME_STAMP) $@

demo: $(RUNTIME_STAMP) ## the main job: publish, fan out, kill -9, recover (about 20 s)
	$(BIN)/mvgateway demo

dev: $(STAMP) ## install what tests and benchmarks need, and no more

system-deps: ## what tests want from the system (Chromium, Firefox, iproute2, curl), where it can be had
	@sh tests/system-deps.sh

test: $(STAMP) system-deps ## every test, in two lanes side by side
	$(BIN)/python -m tests.lanes

check: $(STAMP) ## ruff, ruff format, mypy --strict, and whether what tests ask for by name is there
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini

format: $(STAMP) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## TCP against UDP on a lossy link, short form (under 10 minutes)
	$(BIN)/python -m bench --short

test-aioquic: $(STAMP) ## the suites of QUIC, client and other stacks on another aioquic: make test-aioquic VERSION=1.7.1
	@sh tests/other_aioquic.sh $(VERSION)

simulate: $(STAMP) ## ten thousand seeds of gateways, store and network in simulated time (half an hour)
	$(BIN)/python -m tests.simulation --seeds 10000

bench-check: $(STAMP) ## which of the pages' ratios hold on this machine (under 10 minutes)
	$(BIN)/python -m bench.check

scale: $(STAMP) ## what readers cost by workers and gateways, and what time a second one adds (some minutes)
	$(BIN)/python -m bench.scale
	$(BIN)/python -m bench.edges
	$(BIN)/python -m bench.crowd

mutate: $(STAMP) ## small changes to rules, messages, store and QUIC, and whether a test notices: 300 a room (an hour or two)
	$(BIN)/python -m tests.mutation gateway/core --sample 300
	$(BIN)/python -m tests.mutation gateway/wire --sample 300
	$(BIN)/python -m tests.mutation gateway/store --sample 300
	$(BIN)/python -m tests.mutation gateway/quic/connection --sample 300

mutate-changed: $(STAMP) ## forty of them in what differs from BASE, or else in one room; 85 seconds at most
	$(BIN)/python -m tests.mutation --changed "$(BASE)" --gate --sample 40 --seconds 85

abuse: $(STAMP) ## attacks on a gateway, long form: for a machine that is idle otherwise
	MVGATEWAY_ABUSE=long $(BIN)/python -m pytest tests/abuse --timeout 3600

faults: $(STAMP) ## a hundred crashes and every fault, long form; then a hundred rounds of each on machines of their own (hours; root)
	MVGATEWAY_FAULTS=long $(BIN)/python -m pytest tests/runtime/faults tests/entities/test_sleep_crash.py --timeout 3600
	$(BIN)/python -m bench.faults --rounds 100 --long

dist: $(STAMP) ## one archive for this platform, run without Python or network: made in dist/, unpacked and tried
	@$(BIN)/python .ci/dist.py dist
	MVGATEWAY_DIST=$$(ls -t dist/mvgateway-*.tar.gz | head -1) $(BIN)/python -m pytest tests/e2e/test_dist.py -q --timeout 600

kit-memory: $(STAMP) ## the web kit's memory in a real Chromium over five minutes
	MVGATEWAY_KIT_MEMORY=long $(BIN)/python -m pytest tests/kits/web/test_memory.py -s --timeout 600

house: $(STAMP) ## how long, how typed, how commented the source is, and how far tests reach in
	$(BIN)/python -m bench.house

soak: $(STAMP) ## a day of a world and an hour of its ring on clocks that run fast
	$(BIN)/python -m bench.long_world --hours 24
	$(BIN)/python -m bench.ring --minutes 60

fuzz: $(STAMP) ## 1.2 million inputs to the decoders and to a session, and the same by hypothesis
	MVGATEWAY_FUZZ=long $(BIN)/python -m pytest tests -k "fuzz" --timeout 7200
	$(PIP) $(ATHERIS)
	PYTHONPATH=. $(BIN)/python tests/fuzz/decoders.py -runs=200000

lock: | $(BIN)/python ## write both lock files anew from pyproject.toml
	$(PIP) uv
	$(COMPILE) --extra dev -o requirements.lock
	$(COMPILE) --extra build --constraint requirements.lock -o $(RUNTIME_LOCK)

clean: ## remove the environment and what tools left
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
