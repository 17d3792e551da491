# The commands of this project. `make` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A folder of wheels that pip is set up with serves uv too.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# cpu, cu130 or auto: which build of torch uv takes; empty takes the index's own.
TORCH_BACKEND ?=
UV_INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode $(if $(TORCH_BACKEND),--torch-backend=$(TORCH_BACKEND))
# Some systems part venv from ensurepip: then the system's own pip puts uv into an environment without one.
UV_VERSION := uv==0.13.9
PIP_INSTALL := install --quiet --disable-pip-version-check "$(UV_VERSION)"
MAKE_VENV = if $(BIN)/python -m pip --version >/dev/null 2>&1; \
	then $(BIN)/python -m pip $(PIP_INSTALL); \
	elif $(PYTHON) -c 'import ensurepip' 2>/dev/null; \
	then $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip $(PIP_INSTALL); \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; \
	then $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python $(PIP_INSTALL); \
	else echo "$$($(PYTHON) --version) here has neither ensurepip nor pip: install python3-venv, or name another Python: make setup PYTHON=…" >&2; exit 1; fi
# Processes of the test suite, each with one thread for its tensors and a gigabyte or two.
TEST_WORKERS ?= 2
STAMP := $(VENV)/.evergreen-$(if $(TORCH_BACKEND),$(TORCH_BACKEND),default)
# Set by some containers; it would make every process compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo up stack secrets down test stack-test faults lint format lock clean
help: ## list the commands
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the environment in .venv, nothing else

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, {sys.executable} is {v[0]}.{v[1]}: make setup PYTHON=python3.12")'
	@echo "making $(VENV) (about 2.6 GB with a CPU build of torch; once)" >&2
	@test -x $(BIN)/uv || { $(MAKE_VENV); }
	@$(UV_INSTALL) -r requirements.lock
	@$(UV_INSTALL) --no-deps --editable .
	@rm -f $(VENV)/.evergreen-*; touch $@

demo: setup ## retrain the demo pipeline twice in real Airflow; ends with a table
	@$(BIN)/python scripts/demo.py

up: setup ## Airflow, MLflow and the prediction server; Ctrl-C stops all of it
	@exec $(BIN)/python scripts/up.py

stack: setup ## docker-compose.yml on this machine without Docker; Ctrl-C stops all of it
	@exec $(BIN)/python scripts/stack.py

secrets: setup ## passwords and keys of the stack into .env
	@$(BIN)/python scripts/make_secrets.py

down: ## stop what a crashed `make up` or `make stack` left behind
	@$(BIN)/python scripts/down.py

test: setup ## the whole test suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

stack-test: setup ## the main job on the stack, through Airflow's REST API
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m stack tests/stack/test_stack.py

faults: setup ## a retrain on the stack while its parts are killed or fall silent (half an hour)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m stack tests/stack/test_faults.py tests/faults/test_step_kills.py

lint: setup ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup ## let ruff write the code's format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

# torch brings the CUDA packages of its own build by its own exact pins: left out, so that a CPU build installs none.
lock: ## write requirements.lock anew from pyproject.toml
	@{ echo "# Exact versions for Python 3.11 to 3.13, no addresses: 'make lock' writes this file."; \
	   $(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header --quiet \
	   | grep -vE '^(nvidia-|cuda-|triton)'; } > requirements.lock.new && mv requirements.lock.new requirements.lock

clean: ## remove the environment and everything that was made
	@rm -rf $(VENV) var build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
