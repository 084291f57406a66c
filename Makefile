# `make` lists what there is to make. Nothing has to be installed first but Python (3.11.2 or newer) and make.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup model run test test-long test-browser test-amplifier chromium screenshots lint types bench openapi lock wheel

VENV := .venv
PYTHON := $(VENV)/bin/python
MANAGE := $(PYTHON) manage.py
READY := $(VENV)/.ready
# The same, and what tests and linters need.
DEV := $(VENV)/.dev-ready
UV := uv==0.13.9
AMPLIFIER := .venv-amplifier
# Files go to the next free process in the order of collection, the slow ones first.
TEST_OPTIONS := --dist loadfile --no-loadscope-reorder --durations 25
# One more than there are cores, because some tests wait; four at most. 0 is one test after the
# other, without other processes.
TEST_PROCESSES ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n > 3 ? 4 : n + 1)))

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "  make %-14s %s\n", $$1, $$2 }'

setup: $(DEV) model ## make .venv with everything in it, and fetch the local model

# Without a network everything else works all the same.
model: $(READY) ## fetch the local model, unless it is there
	@$(MANAGE) fetch_model || echo "Going on without the local model: run \`make model\` again with a network."

# The daemon fetches the model itself, beside its first answers.
run: $(READY) ## run the daemon on http://127.0.0.1:8420; Ctrl-C stops it
	@$(MANAGE) serve

test: setup ## run the tests of every day, against a PostgreSQL of their own
	@$(PYTHON) -m pytest -m "not long and not browser" -n $(TEST_PROCESSES) $(TEST_OPTIONS)

test-long: setup ## run the long tests: random faults for minutes, streams of gigabytes
	@$(PYTHON) -m pytest -m "long and not alone" -n $(TEST_PROCESSES) $(TEST_OPTIONS)
	@$(PYTHON) -m pytest -m "long and alone" -s --durations 25

test-browser: setup chromium ## run the tests of the console in Chromium
	@$(PYTHON) -m pytest -m browser --durations 25

# The optional engine, in an environment of its own that sees all of $(VENV).
test-amplifier: $(AMPLIFIER)/.ready ## run the tests of the optional engine, with amplifier-core
	@$(AMPLIFIER)/bin/python -m pytest extras/amplifierd-amplifier/tests

screenshots: setup chromium ## take the pictures that documents show again
	@$(PYTHON) -m tests.browser.screenshots

# The system's own: Playwright's builds, which are a download of their own, are not needed.
chromium:
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; \
	else \
		echo "There is no Chromium here. Install it: \`sudo apt-get install chromium\`, or Chrome." >&2; \
		exit 1; \
	fi >/dev/null

lint: $(DEV) types ## check style, types, migrations and settings
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && export AMPLIFIERD_HOME="$$home" DATABASE_URL= && \
		$(MANAGE) makemigrations --check --dry-run && $(MANAGE) check && \
		AMPLIFIERD_HOST=0.0.0.0 AMPLIFIERD_ALLOWED_HOSTS=daemon.example AMPLIFIERD_BEHIND_PROXY=1 \
		$(MANAGE) check --deploy --fail-level WARNING

types: $(DEV) ## check the types
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && export AMPLIFIERD_HOME="$$home" DATABASE_URL= && \
		$(PYTHON) -m mypy

openapi: $(READY) ## write docs/openapi.json, which a test compares with the code
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && AMPLIFIERD_HOME="$$home" $(MANAGE) openapi

# While you work on one row: `python -m tests.bench goals --only append,get --profile`.
bench: setup ## measure all of it, for some minutes, and write docs/performance.md
	@$(PYTHON) -m tests.bench --profile --write docs/performance.md

# Made anew when the requirements change, and when its Python is there no longer. The stamp comes
# last: what was interrupted is repeated.
ifneq ($(wildcard $(READY)),)
ifneq ($(shell $(PYTHON) -c 'print(1)' 2>/dev/null),1)
$(shell rm -f $(READY) $(DEV))
endif
endif

$(READY): requirements.txt
	@UV=$(UV) $(SHELL) deploy/make_venv.sh $(VENV) requirements.txt
	@touch $@

# It has all of requirements.txt as well: one install, and not two.
$(DEV): tests/requirements.txt requirements.txt
	@UV=$(UV) $(SHELL) deploy/make_venv.sh $(VENV) tests/requirements.txt
	@touch $(READY) $@

# The pins of all that is installed, resolved from pyproject.toml on the oldest Python that we run on, in one
# version for all. To raise a version, change it in pyproject.toml, or remove its line in the lock.
RESOLVE := uv pip compile --universal --python-version 3.11.2 --fork-strategy fewest pyproject.toml
LOCK := $(VENV)/bin/$(RESOLVE) --quiet --custom-compile-command "make lock, which runs $(RESOLVE)"

lock: $(DEV) ## resolve requirements.txt and tests/requirements.txt from pyproject.toml
	@$(LOCK) --output-file requirements.txt
	@$(LOCK) --group dev --constraint requirements.txt --output-file tests/requirements.txt

wheel: $(DEV) ## build the wheel and the sdist into dist/
	@rm -rf dist && $(VENV)/bin/uv build --quiet && ls dist

# A path file and not a copy of the requirements: seconds instead of minutes.
$(AMPLIFIER)/.ready: $(DEV) extras/amplifierd-amplifier/pyproject.toml
	@echo "Installing amplifier-core into $(AMPLIFIER)"
	@$(PYTHON) -m venv --clear $(AMPLIFIER)
	@$(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		>"$$($(AMPLIFIER)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth"
	@$(AMPLIFIER)/bin/python -m pip install --quiet --disable-pip-version-check "amplifier-core==2.0.2"
	@$(AMPLIFIER)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		./extras/amplifierd-amplifier
	@touch $@
