# make run     install into .venv and start the proxy in front of a demo upstream
# make test    install into .venv and run lint, types, docs and all tests
#
# Variables: PYTHON (python3), PORT (8000), BOARD (8001).

PYTHON ?= python3
PORT ?= 8000
BOARD ?= 8001
SHELL := /bin/sh

VENV := .venv
LOWEST := .venv-lowest
NEWEST := .venv-newest
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SOURCES := pyproxy tests twisted/plugins $(wildcard benchmarks compliance examples docs/*.py)
# twisted/plugins is no package of ours: mypy would take it for a part of Twisted.
TYPED := pyproxy tests $(wildcard benchmarks compliance examples docs/screenshots.py)
# Every test but the live ones, which need a process of their own.
UNIT := $(wildcard tests/test_*.py) $(filter-out tests/live/,$(dir $(wildcard tests/*/__init__.py)))
# A few of them of each kind, for pytest: pure, by hypothesis, in memory, with processes.
SAMPLE := tests/policy tests/semantics/test_chunked.py tests/test_exchange.py tests/test_tap.py

.PHONY: help run test lint types unit pytest docs bench micro profile compliance test-lowest test-newest
.PHONY: screenshots dist clean

help:
	@sed -n '1,2s/^# *//p' Makefile
	@echo "others: lint types unit docs bench micro profile compliance test-lowest test-newest screenshots dist clean"

# (``sort`` leaves out what is named twice: test-newest makes its environment that of everything.)
$(addsuffix /pyvenv.cfg,$(sort $(VENV) $(LOWEST) $(NEWEST))):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "pyproxy needs Python 3.11 or newer as '$(PYTHON)'; name another: make PYTHON=python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments." >&2; \
	  echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(@D)

$(VENV)/.installed-run: setup.cfg pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing into $(VENV); that takes about half a minute."
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/.installed-run

$(LOWEST)/.installed: setup.cfg pyproject.toml tests/constraints-lowest.txt | $(LOWEST)/pyvenv.cfg
	$(LOWEST)/bin/python -m pip install --quiet --editable '.[unit]' \
	  --constraint tests/constraints-lowest.txt
	@touch $@

run: $(VENV)/.installed-run
	@echo
	@echo "pyproxy on http://127.0.0.1:$(PORT), in front of a demo upstream.  Ctrl-C ends it.  Try:"
	@echo
	@echo "  http://127.0.0.1:$(PORT)/chat in a browser: a playground, with answers that end well or badly"
	@echo "  http://127.0.0.1:$(BOARD)/ beside it: a board of what is open, live, with a button that stops it"
	@echo "  curl http://127.0.0.1:$(PORT)/"
	@echo "  curl http://127.0.0.1:$(PORT)/v1/models"
	@echo "  curl -N http://127.0.0.1:$(PORT)/v1/chat/completions -H 'Content-Type: application/json' \\"
	@echo "    -d '{\"model\": \"demo\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'"
	@echo "  python -m websockets ws://127.0.0.1:$(PORT)/ws/echo     (after pip install websockets)"
	@echo
	@exec $(BIN)/twistd --nodaemon --pidfile= pyproxy --demo --port $(PORT) --admin tcp:$(BOARD)

# One after the other, also under ``make -j``: two cores and real sockets do not go well together.
test: $(VENV)/.installed-test
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory types
	$(MAKE) --no-print-directory docs
	$(MAKE) --no-print-directory unit
	$(MAKE) --no-print-directory pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.installed-test
	$(BIN)/mypy $(TYPED)

# Both runners, but not twice the whole: trial has the unit tests, with every branch of the two lowest
# rings covered; pytest has the live tests and a sample of the unit tests here, and all of them in
# test-lowest.
unit: $(VENV)/.installed-test
	$(BIN)/coverage run -m twisted.trial $(UNIT)
	$(BIN)/coverage report --fail-under=100 --include='pyproxy/semantics/*,pyproxy/policy/*'

pytest: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(SAMPLE) tests/live

docs: $(VENV)/.installed-test
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks

# The parsers and rewriters call by call; a minute.
micro: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.micro

# The proxy under cProfile with a load of short requests; ten seconds.
profile: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.profiling

# Programs and tests of others through the proxy, all cases: an hour and a half.
compliance: $(VENV)/.installed-test
	$(BIN)/python -m compliance.jupyter
	$(BIN)/python -m compliance.socketio
	$(BIN)/python -m compliance.cache
	$(BIN)/python -m compliance.autobahn

# Everything that the lowest versions can run, once, under pytest.
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest tests --ignore tests/live/test_install.py \
	  --ignore tests/live/test_openai.py --ignore tests/live/test_openai_realtime.py \
	  --ignore tests/live/test_compliance.py --ignore-glob 'tests/live/test_cache_*.py' \
	  --ignore tests/live/test_board.py --ignore tests/live/test_inserting.py

# The tests once more, on what is newest today: an environment of its own, brought up to date each time.
test-newest: | $(NEWEST)/pyvenv.cfg
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[test]'
	@touch $(NEWEST)/.installed-test
	$(MAKE) --no-print-directory VENV=$(NEWEST) unit
	$(MAKE) --no-print-directory VENV=$(NEWEST) pytest

# The pictures in the documents; needs chromium and chromium-driver.
screenshots: $(VENV)/.installed-test
	$(BIN)/python -m docs.screenshots

dist: $(VENV)/.installed-test
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) $(LOWEST) $(NEWEST) .compliance build dist docs/_build *.egg-info
	rm -rf .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache _trial_temp* tests.* twisted/plugins/dropin.cache
	find pyproxy tests twisted -name __pycache__ -type d -prune -exec rm -rf {} +
