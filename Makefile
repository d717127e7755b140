# Plain `make` lists the targets. Everything runs in .venv, which the first target that needs it makes, from lock files with hashes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AUDIT := $(VENV)/audit
PEERS := $(VENV)/peers
LOCAL := $(BIN)/python -m deploy.local

# What this machine trusts, as pip does
export UV_SYSTEM_CERTS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo up down status clean test hostile check audit bench bench-peers flood chaos kills fuzz format schemas lock

help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{ printf "  make %-11s %s\n", $$1, $$2 }'

ASKED = $(if $(BROKERS),--brokers $(BROKERS))

demo: $(READY) ## From a fresh clone: import 500 rows through the whole pipeline, show the results, stop
	@$(LOCAL) demo $(ASKED)

up: $(READY) ## Start the local stack and keep it running; start only what is missing (BROKERS=3: three brokers)
	@$(LOCAL) up $(ASKED)

down: $(READY) ## Stop the local stack; its data is kept
	@$(LOCAL) down

status: $(READY) ## Show what is running
	@$(LOCAL) status

# Two workers, each with servers of its own, take whole files; what ARGS asks for runs in one
test: $(READY) ## Run every test, on the real broker and database (INFRA=docker: in containers; ARGS=… for pytest)
	@PINFLOW_TEST_INFRA=$(INFRA) $(BIN)/python -m pytest $(or $(ARGS),-n 2 --dist loadfile --no-loadscope-reorder)

hostile: $(READY) ## Hostile input, for longer than make test: EXAMPLES=… an operation, SEED=… to repeat a run
	@seed=$(or $(SEED),$$(date +%s)); echo "  seed $$seed"; PINFLOW_HOSTILE_EXAMPLES=$(or $(EXAMPLES),300) PINFLOW_HOSTILE_SEED=$$seed \
		$(BIN)/python -m pytest tests/acceptance/hostile -s $(ARGS)

check: $(READY) ## Formatting, lint, types, layers: what CI runs before the tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

audit: $(READY) $(AUDIT)/.ready ## Secrets in the repository; known vulnerabilities of the dependencies (needs PyPI's JSON API or OSV)
	@$(BIN)/python -m deploy.audit $(AUDIT)/bin

fuzz: $(READY) ## Property tests from ever new seeds (MINUTES=… at least; ARGS=… for pytest)
	@$(BIN)/python -m tests.property --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(if $(ARGS),-- $(ARGS))

bench: $(READY) ## Measure rows/s, latencies, CPU, bytes and memory (SECONDS=… per scenario, ROUNDS=…, ARGS="--only …", --help)
	@$(BIN)/python -m tests.tools.bench --seconds $(or $(SECONDS),60) --rounds $(or $(ROUNDS),1) $(ARGS)

bench-peers: $(READY) $(PEERS)/.ready ## Install what the benchmark's peers need: Celery and Redis, Kafka Connect (120 MB, once)
	@$(BIN)/python -m tests.tools.bench.peers --install

flood: $(READY) ## One workspace at full speed: what is refused, how another fares, memory (SECONDS=…; a minute in all)
	@$(BIN)/python -m tests.tools.bench --flood --seconds $(or $(SECONDS),20)

chaos: $(READY) ## Break things on purpose for MINUTES=…; nothing may be lost or doubled (SEED=…, BROKERS=3, RESTORES=1, ONLY=a fault)
	@$(BIN)/python -m tests.tools.chaos --minutes $(or $(MINUTES),2) --brokers $(or $(BROKERS),1) $(if $(SEED),--seed $(SEED)) \
		$(if $(RESTORES),--restores) $(if $(ONLY),--only "$(ONLY)")

kills: $(READY) ## Kill a broker or producers COUNT=… times and check every import (KIND=lone, three, producer or disk); goes on after a stop
	@$(BIN)/python -m tests.tools.chaos.kills --kind $(or $(KIND),lone) --count $(or $(COUNT),10) $(if $(SEED),--seed $(SEED)) $(ARGS)

format: $(READY) ## Format and auto-fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

schemas: $(READY) ## Regenerate: JSON Schemas of the events, the OpenAPI document, the gateway's routes, docs/reference/settings.md
	@$(BIN)/python -m deploy.generate

lock: $(READY) ## Re-resolve the dependencies into the lock files
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --no-header --python-version 3.11 pyproject.toml -o requirements.lock $(ARGS)
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --no-header --python-version 3.11 pyproject.toml --all-extras \
		-c requirements.lock -o requirements-dev.lock $(ARGS)
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --no-header --python-version 3.11 requirements-audit.in \
		-o requirements-audit.lock $(ARGS)
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --no-header --python-version 3.11 requirements-peers.in \
		-c requirements.lock -o requirements-peers.lock $(ARGS)

clean: ## Stop the local stack and delete its data (.venv stays)
	@if [ -e $(READY) ]; then $(LOCAL) clean; else rm -rf .pinflow; fi

# uv is the quick way; pip, which reads this machine's pip.conf, the sure one. uv leaves modules uncompiled: a service's first start, or with
# PYTHONDONTWRITEBYTECODE each, would take 3 s of CPU instead of 1
$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Pinflow needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; run: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "  setting up $(VENV) (once; fetches about 400 MB)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || { echo "Python's venv module is needed (Debian: apt install python3-venv)." >&2; exit 1; }
	@$(BIN)/pip install -q --require-hashes -r requirements-uv.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements-dev.lock \
		|| $(BIN)/pip install -q --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install -q --no-deps --no-build-isolation --no-index -e .
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib || true
	@touch $(READY)

# Apart: nothing else needs it
$(AUDIT)/.ready: requirements-audit.lock | $(READY)
	@echo "  setting up $(AUDIT) (once)"
	@test -x $(AUDIT)/bin/pip || $(PYTHON) -m venv $(AUDIT)
	@$(BIN)/uv pip install -q --python $(AUDIT)/bin/python --require-hashes -r requirements-audit.lock \
		|| $(AUDIT)/bin/pip install -q --require-hashes -r requirements-audit.lock
	@touch $(AUDIT)/.ready

# Pinflow's own dependencies in the same versions, as the peers use them too, and what they have beyond them
$(PEERS)/.ready: requirements-peers.lock requirements.lock | $(READY)
	@echo "  setting up $(PEERS) (once)"
	@test -x $(PEERS)/bin/pip || $(PYTHON) -m venv $(PEERS)
	@$(BIN)/uv pip install -q --python $(PEERS)/bin/python --require-hashes -r requirements.lock -r requirements-peers.lock \
		|| $(PEERS)/bin/pip install -q --require-hashes -r requirements.lock -r requirements-peers.lock
	@touch $(PEERS)/.ready
