# Every target sets up what it needs, once. Of the machine it expects Python 3.11 and, for the dashboard, Node 20.
PYTHON ?= python3.11
ifeq ($(shell command -v $(PYTHON) 2>/dev/null),)
PYTHON := python3
endif
NODE := $(shell command -v npm 2>/dev/null)
KAFKA_HOME ?= $(realpath ../shared/kafka)
export KAFKA_HOME
VENV := .venv
BIN := $(VENV)/bin
DASHBOARD := control/dashboard
DASHBOARD_SOURCES := $(shell find $(DASHBOARD)/src $(DASHBOARD)/index.html $(DASHBOARD)/*.json $(DASHBOARD)/*.ts -type f 2>/dev/null)

.PHONY: setup demo test check bench soak clean
.DEFAULT_GOAL := setup

setup: $(VENV)/.ready $(if $(NODE),$(DASHBOARD)/dist/index.html,no-dashboard)

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=…"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(DASHBOARD)/node_modules/.ready: $(DASHBOARD)/package-lock.json
	cd $(DASHBOARD) && { npm ci --no-audit --no-fund --silent || npm install --no-save --no-audit --no-fund --silent; }
	@touch $@

$(DASHBOARD)/dist/index.html: $(DASHBOARD)/node_modules/.ready $(DASHBOARD_SOURCES)
	cd $(DASHBOARD) && npm run build --silent
	@touch $@

.PHONY: no-dashboard
no-dashboard:
	@echo "Node 20 was not found: the dashboard page is left out; everything else works."

demo: setup
	@$(BIN)/stovetop demo $(ARGS)

# A Chromium is looked for, and installed where that can be done; the last line says so where there is none.
define with_browser
	@chromium=$$($(BIN)/python tests/browser/provide_chromium.py); \
	if [ -n "$$chromium" ] && [ -n "$(NODE)" ]; then \
	  export STOVETOP_CHROMIUM=$$chromium; \
	  $(BIN)/python -m pytest -m "$(1)" $(2) $(ARGS) || { $(3) $(BIN)/python -m pytest -m "$(1)" $(ALONE) $(ARGS); }; \
	else \
	  { $(BIN)/python -m pytest -m "($(1)) and not browser" $(2) $(ARGS) || \
	    { $(3) $(BIN)/python -m pytest -m "($(1)) and not browser" $(ALONE) $(ARGS); }; } && \
	  echo "NOT RUN: the browser tests; they need Node 20 and a Chromium (set STOVETOP_CHROMIUM to its path)"; \
	fi
endef

# What failed with other tests beside it is run once more alone, and has to pass then: brokers, browsers and trainings starve each other
# of two cores. Both runs are shown.
ALONE := -n 0 --last-failed --last-failed-no-failures none
AGAIN := echo "once more, alone: what failed beside other tests";

# The same of Apache Kafka, which is found by KAFKA_HOME and needs a Java.
HAS_KAFKA := $(and $(wildcard $(KAFKA_HOME)/libs/*.jar),$(shell command -v java 2>/dev/null))
define name_what_needs_kafka
	$(if $(HAS_KAFKA),,@echo "NOT RUN: the tests on Apache Kafka; they need KAFKA_HOME (a folder with libs/) and a Java")
endef

test: setup
	$(call with_browser,not soak,-n 2 --dist loadfile --no-loadscope-reorder,$(AGAIN))
	$(name_what_needs_kafka)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy auth ingest dataset control publish trainer stovetop examples benchmarks interactive_training.py
	$(if $(NODE),cd $(DASHBOARD) && npm run check --silent,@echo "Node 20 was not found: the dashboard was not checked.")

PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

# litdata and mosaicml-streaming insist on torchvision, which has no build that fits beside torch here, and need none of it.
$(VENV)/.bench: $(VENV)/.ready
	$(PIP_INSTALL) -c constraints.txt -e '.[dev,bench]'
	$(PIP_INSTALL) -c constraints.txt --no-deps litdata mosaicml-streaming
	@touch $@

bench: setup $(VENV)/.bench
	$(BIN)/python -m benchmarks.loop
	$(BIN)/python -m benchmarks.mixture
	$(BIN)/python -m benchmarks.stream
	$(BIN)/python -m benchmarks.publish
	$(BIN)/python -m benchmarks.serve
	$(BIN)/python -m benchmarks.archive
	$(BIN)/python -m benchmarks.trainer
	$(if $(NODE),$(BIN)/python -m benchmarks.dashboard,@echo "NOT RUN: benchmarks.dashboard; it needs Node 20 and a Chromium")
	$(if $(HAS_KAFKA),$(BIN)/python -m benchmarks.ingest,@echo "NOT RUN: benchmarks.ingest; it needs KAFKA_HOME")
	$(if $(HAS_KAFKA),$(BIN)/python -m benchmarks.fortnight,@echo "NOT RUN: benchmarks.fortnight; it needs KAFKA_HOME")

soak: setup
	$(call with_browser,soak,--timeout=3600,exit 1;)
	$(name_what_needs_kafka)

clean:
	rm -rf $(VENV) $(DASHBOARD)/node_modules $(DASHBOARD)/dist .stovetop demo-output build *.egg-info
