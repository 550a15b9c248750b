# The front door. Everything here works from a fresh clone; nothing needs to be prepared by hand.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo dashboard demo-clean test test-unit test-contract test-integration test-fleet test-main-job test-next test-fresh test-push test-podman bench-jobs bench-push bench-rollout bench-results chaos chaos-jobs test-rollout bench-report bench-load bench-scale bench simulate-verdicts docs molecule pictures lint sanity lock

# Everything is installed there, with that Python; test-next has another of both.
VENV := .venv
PYTHON := python3
BIN := $(VENV)/bin
# A sudo that wants a password gets it through Ansible, which asks for it. (-k: a password given a while ago does not count.)
ASK = $(shell if [ "$$(id -u)" != 0 ] && [ -t 0 ] && command -v sudo >/dev/null && ! sudo -kn true 2>/dev/null; then \
  echo --ask-become-pass; fi)
PLAY = $(BIN)/ansible-playbook $(ASK)
PYTEST := $(BIN)/pytest -q

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/run.done ## Install what the control node needs: .venv with the collections, and a running Docker engine
	@$(PLAY) playbooks/engine.yml

demo: setup ## Run the main job on an embedded fleet: three hosts, sixty scans, level 2 read back
	@$(PLAY) playbooks/demo.yml

dashboard: $(VENV)/run.done ## Show a job service in the browser (SERVICE=<its root, or a settings file>; else the demo's)
	@$(BIN)/python bin/dashboard.py $(or $(SERVICE),build/demo/demo.conf)

demo-clean: $(VENV)/run.done ## Remove everything that the demo made: hosts, services, images, files
	@$(BIN)/ansible-playbook playbooks/demo_clean.yml

test: lint setup $(VENV)/system.done ## Run the linters and the tests, and the main job on the other line of Pythons; test-fleet, test-push, test-rollout, test-podman and chaos-jobs take longer
	@$(PYTEST) --numprocesses auto --maxprocesses 4 --ignore tests/integration tests
	@$(PYTEST) -m "not slow" tests/integration
	@if [ -n "$(OTHER)" ]; then $(MAKE) --no-print-directory VENV=$(SECOND) PYTHON="$(OTHER)" test-main-job; fi
	@echo "All tests passed with $$($(call versions,$(BIN)))"
	@if [ -n "$(OTHER)" ]; then echo "The demo and the main job also passed with $$($(call versions,$(SECOND)/bin))"; \
	  else echo "NOT TRIED: $(MISSING)"; fi

test-unit: $(VENV)/system.done ## Run the tests that need no service and no Docker
	@$(PYTEST) tests/unit

test-contract: $(VENV)/system.done ## Run the contract tests of the services and the worker (no Docker)
	@$(PYTEST) tests/contract

# There are two lines: ansible-core 2.19 on Python 3.11, and 2.21 on newer ones. The first of these Pythons that is here and
# has what makes a .venv. Where pyenv has a Python and nobody chose it, only its own directory leads to it.
python_of = $(firstword $(shell for version in $(1); do for python in python$$version ~/.pyenv/versions/$$version.*/bin/python3; do \
  "$$python" -c 'import ensurepip' 2>/dev/null && echo "$$python"; done; done; true))
NEXT = $(call python_of,3.14 3.13 3.12)
IS_NEXT = $(shell $(BIN)/python -c 'import sys; sys.version_info >= (3, 12) and print("yes")')
OTHER = $(if $(IS_NEXT),$(call python_of,3.11),$(NEXT))
SECOND = $(if $(IS_NEXT),.venv-former,.venv-next)
MISSING = ansible-core $(if $(IS_NEXT),2.19: there is no Python 3.11 with venv here,2.21: there is no Python 3.12 or newer with venv here)
# What there is in the virtual environment $(1), as a command.
versions = $(1)/python -c 'import platform; from importlib.metadata import version; \
  print("ansible-core", version("ansible-core"), "on Python", platform.python_version())'

test-main-job: setup $(VENV)/system.done
	@echo "Trying the demo and the main job with $$($(call versions,$(BIN)))"
	@$(BIN)/mypy
	@$(PYTEST) tests/unit/test_result_keys.py tests/unit/test_report.py tests/contract/test_config_secrets.py \
	  tests/contract/test_watch_playbook.py tests/contract/test_results_playbook.py
	@$(PYTEST) tests/integration/test_flow.py -k "every_scan_becomes or results_are_kept or demo_ends"

# What is released is tried with all that depends on it, and what is to come with the playbooks alone.
test-next: ## Run most of the tests on ansible-core 2.21, and what can be tried on 2.22, with Python 3.12 or newer (NEXT=its command)
	@test -n "$(NEXT)" || { echo "There is no Python 3.12 or newer here: give one, as in make test-next NEXT=/opt/python3.13/bin/python3" >&2; exit 1; }
	@$(MAKE) --no-print-directory VENV=.venv-next PYTHON="$(NEXT)" setup .venv-next/system.done
	@.venv-next/bin/pytest -q --numprocesses auto --maxprocesses 4 --ignore tests/integration tests
	@.venv-next/bin/pytest -q -m "not slow" tests/integration/test_flow.py tests/integration/test_push.py
	@$(MAKE) --no-print-directory VENV=.venv-coming PYTHON="$(NEXT)" .venv-coming/coming.done
	@echo "Trying $$($(call versions,.venv-coming/bin))"
	@.venv-coming/bin/pytest -q tests/unit/test_result_keys.py tests/contract/test_config_secrets.py tests/contract/test_watch_playbook.py \
	  tests/contract/test_results_playbook.py tests/contract/test_security_playbooks.py
	@.venv-coming/bin/pytest -q tests/integration/test_flow.py -k "every_scan_becomes or results_are_kept or demo_ends"

test-integration: setup $(VENV)/system.done ## Run the playbooks on a container fleet of their own
	@$(PYTEST) tests/integration

bench-rollout: setup $(VENV)/dev.done ## Measure rollouts and one worker (ARGS='--hosts 2,8' for fewer hosts, '--part worker' for no fleet)
	@$(BIN)/python tests/bench/rollout_bench.py $(ARGS)

test-fleet: setup $(VENV)/system.done ## Run the slower tests of the fleet: losses, locks, rollbacks, day-to-day playbooks
	@$(PYTEST) -m slow tests/integration

test-push: setup $(VENV)/system.done ## Cut pushes at every place and go on, and push through a registry
	@$(PYTEST) tests/faults/push_cuts.py tests/faults/registry_push.py

test-podman: setup $(VENV)/system.done ## Run workers on a host that has Podman in Docker's place
	@$(PYTEST) tests/faults/podman_host.py

test-fresh: ## Run make demo on a fresh Debian 13 that has nothing but git, make and Python (as root; ARGS='bookworm demo': another)
	$(call packages,mmdebstrap iproute2 iptables,command -v mmdebstrap && command -v ip && command -v iptables)
	@tests/faults/fresh_root.sh $(ARGS)

bench-jobs: $(VENV)/dev.done ## Measure adding jobs against the former ways (ARGS=--large: up to a million)
	@$(BIN)/python tests/bench/jobs_bench.py $(ARGS)

bench-push: setup $(VENV)/dev.done ## Measure pushes against copying and rsync, behind links of known speed (as root; ARGS='--only fan-out', --help)
	$(call packages,rsync iproute2,command -v rsync && command -v tc)
	@$(BIN)/python tests/bench/push_bench.py $(ARGS)

test-rollout: setup $(VENV)/dev.done ## Roll out on five hosts with jobs running, through losses, kills and bad snapshots (ARGS='--only CASE')
	@$(BIN)/python tests/faults/rollout_faults.py $(ARGS)

chaos: setup $(VENV)/dev.done ## Let faults of all layers loose on five hosts at work, and see that all is well after (ARGS='--seed N --minutes M')
	@$(BIN)/python tests/faults/chaos.py $(ARGS)

chaos-jobs: $(VENV)/dev.done ## Add jobs through 300 runs of random faults and kills (ARGS='--runs 1 --seed N': one again)
	@$(BIN)/python tests/faults/chaos_jobs.py $(ARGS)

bench-results: $(VENV)/dev.done ## Measure fetching level 2 against one request after the other (ARGS=--large: 100,000 scans)
	@$(BIN)/python tests/bench/results_bench.py $(ARGS)
	@$(BIN)/python tests/bench/report_bench.py

bench-load: $(VENV)/system.done ## Measure the job service under 500 workers, on PostgreSQL and SQLite (ARGS='--workers 50 --seconds 5': less)
	@$(BIN)/python tests/bench/load_bench.py $(ARGS)

bench-report: $(VENV)/dev.done ## Measure the report's build time and size (ARGS='1000 100000': jobs)
	@$(BIN)/python tests/bench/report_bench.py $(ARGS)

simulate-verdicts: $(VENV)/dev.done ## Count how often compare.yml's verdict is right where the truth is known (ARGS='--runs 100': fewer)
	@$(BIN)/python tests/bench/simulate_verdicts.py $(ARGS)

bench-scale: setup $(VENV)/dev.done ## Measure each playbook on 8, 24 and 40 hosts (ARGS='--hosts 4,8')
	@$(BIN)/python tests/bench/scale_bench.py $(ARGS)

bench: ## Run all benches, one to two hours, and show their figures in one table
	@for part in jobs push rollout results load scale; do $(MAKE) --no-print-directory bench-$$part; done
	@$(BIN)/python tests/bench/figures.py

docs: $(VENV)/dev.done ## Build the documentation as a site, build/site/index.html, with all roles and modules
	@$(BIN)/mkdocs build --quiet
	@echo "$(CURDIR)/build/site/index.html"

molecule: setup $(VENV)/dev.done ## Test the roles that make sense alone on container hosts (ARGS='-s worker': one of them)
	@PATH="$(CURDIR)/$(BIN):$$PATH" COLUMNS=120 molecule test $(or $(ARGS),--all) --no-command-borders

pictures: $(VENV)/dev.done ## Take the README's pictures anew from the demo that has run
	@$(BIN)/python docs/make_pictures.py

sanity: $(VENV)/dev.done ## Run ansible-test sanity on modules and plugins (ARGS='--test validate-modules': one of its tests)
	@$(BIN)/python tests/sanity.py $(ARGS)

lint: $(VENV)/dev.done $(VENV)/system.done ## Run ruff, mypy, ansible-lint (production), yamllint and shellcheck
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/yamllint --strict .
	@PATH="$(CURDIR)/$(BIN):$$PATH" ANSIBLE_HOME=build/ansible $(BIN)/ansible-lint --offline -q
	@git ls-files '*.sh' .ci/run | xargs shellcheck

lock: ## Make the lock files anew from requirements/*.in (needs uv)
	@cd requirements && for set in run dev; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate -q $$set.in -o $$set.lock; done

# Installs Debian's packages $(1), as root or with sudo, unless the command $(2) finds that all is there.
define packages
	@{ $(2); } >/dev/null 2>&1 || { echo "Installing $(1)"; sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive $$sudo apt-get -qq install -y --no-install-recommends $(1) >/dev/null; } || { \
	  echo "Could not install $(1): that needs root or sudo, and Debian's or Ubuntu's packages." >&2; exit 1; }
endef

# Debian packs venv and the SSH client apart.
$(VENV)/bin/pip:
	$(call packages,python3-venv openssh-client,$(PYTHON) -c "import ensurepip" && command -v ssh && command -v ssh-keygen)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or newer as $(PYTHON); here it is $$($(PYTHON) --version)." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/%.done: requirements/%.lock | $(VENV)/bin/pip
	@echo "Installing requirements/$*.lock into $(VENV) (about a minute, once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $< 2>&1 | { grep -v '^WARNING: Location' || true; }
	@touch $@

$(VENV)/dev.done: $(VENV)/run.done

$(VENV)/coming.done: requirements/coming.txt $(VENV)/system.done
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

# What the tests take from Debian: a database server, a linter and a browser.
$(VENV)/system.done: Makefile $(VENV)/dev.done
	$(call packages,postgresql shellcheck chromium,dpkg -s postgresql shellcheck chromium)
	@touch $@
