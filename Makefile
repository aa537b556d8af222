# Everything is installed into .venv/ and devhost/node_modules/, and nowhere else.
PYTHON ?= $(shell for p in python3 python3.13 python3.14 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
RUN = .venv/bin/python
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check audit format bench chaos run lock environment clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: environment ## watch deals travel both ways (no account anywhere needed)
	@$(RUN) -m demo $(ARGS)

test: environment ## run the tests; ARGS="-k name" picks some
	@$(RUN) -m pytest $(ARGS)

check: environment ## format, lint and types, as CI checks them
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy

audit: environment ## look the locked packages up among the known vulnerabilities; ARGS=--strict fails where that cannot be done
	@$(RUN) devhost/audit.py $(ARGS)

format: environment ## put the code into shape
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

bench: environment ## count the calls and measure the speed
	@$(RUN) -m bench $(ARGS)

chaos: environment ## break it on purpose, for two minutes; SEED=, RUNS= and MINUTES= widen it
	@$(RUN) -m chaos $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

run: environment ## run the functions on port 7071 with a storage emulator of their own
	@$(RUN) -m devhost --azurite $(ARGS)

lock: environment ## compile requirements*.txt from pyproject.toml; ARGS=--upgrade for newer versions
	@$(RUN) -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	@$(RUN) devhost/lock.py $(ARGS)

environment: ## make or refresh what the other targets need
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and no python3 here is that new."; exit 1; }
	@$(PYTHON) devhost/bootstrap.py

clean: ## remove everything that make made
	rm -rf .venv devhost/node_modules .azurite .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
