# The front door. Everything here works from a fresh clone; nothing needs to be prepared by hand.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-clean test test-unit test-contract test-integration lint lock

BIN := .venv/bin
PLAY := $(BIN)/ansible-playbook
PYTEST := $(BIN)/pytest -q

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/run.done ## Install what the control node needs: .venv with the collections, and a running Docker engine
	@$(PLAY) playbooks/engine.yml

demo: setup ## Run the main job on an embedded fleet: three hosts, sixty scans, level 2 read back
	@$(PLAY) playbooks/demo.yml

demo-clean: .venv/run.done ## Remove everything that the demo made: hosts, services, images, files
	@$(PLAY) playbooks/demo_clean.yml

test: lint setup .venv/system.done ## Run the linters and every test
	@$(PYTEST) tests

test-unit: .venv/dev.done ## Run the tests that need nothing but Python (seconds)
	@$(PYTEST) tests/unit

test-contract: .venv/system.done ## Run the contract tests of the services and the worker (no Docker)
	@$(PYTEST) tests/contract

test-integration: setup .venv/system.done ## Run the playbooks on a container fleet of their own
	@$(PYTEST) tests/integration

lint: .venv/dev.done .venv/system.done ## Run ruff, mypy, ansible-lint (production), yamllint and shellcheck
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/yamllint --strict .
	@PATH="$(CURDIR)/$(BIN):$$PATH" ANSIBLE_HOME=build/ansible $(BIN)/ansible-lint --offline -q
	@git ls-files '*.sh' .ci/run | xargs shellcheck

lock: ## Make the lock files anew from requirements/*.in (needs uv)
	@cd requirements && for set in run dev; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate -q $$set.in -o $$set.lock; done

# The newest Python that the lock is made for, and venv, which Debian packs apart.
.venv/bin/python:
	@python=$$(for p in python3 python3.13 python3.12 python3.11; do \
	    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done || true); \
	[ -n "$$python" ] || { echo "No Python 3.11 or newer here: install one, for example 'apt-get install python3'." >&2; exit 1; }; \
	$$python -m venv .venv 2>/dev/null || { \
	  echo "Installing python3-venv"; sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get -qq update && $$sudo apt-get -qq install -y --no-install-recommends python3-venv >/dev/null && \
	  $$python -m venv --clear .venv; } || { \
	  rm -rf .venv; echo "Could not make .venv: see above; root or sudo and Debian's packages are needed." >&2; exit 1; }

.venv/%.done: requirements/%.lock | .venv/bin/python
	@echo "Installing requirements/$*.lock into .venv (about a minute, once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $< 2>&1 | { grep -v '^WARNING: Location' || true; }
	@touch $@

.venv/dev.done: .venv/run.done

# What the tests take from Debian: a database server and a linter.
.venv/system.done: Makefile .venv/dev.done
	@missing=$$(for p in postgresql shellcheck; do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "Installing $$missing"; sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get -qq update && DEBIAN_FRONTEND=noninteractive $$sudo apt-get -qq install -y --no-install-recommends $$missing >/dev/null; fi
	@touch $@
