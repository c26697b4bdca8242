# Two commands matter: `make train` and `make test`. Each builds the environment it needs.
# uv is used where it is on the path, venv and pip otherwise.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)
RUN    := $(VENV)/.runs
STAMP  := $(VENV)/.installed
ARGS   ?=
ifneq ($(UV),)
INSTALL := VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet
else
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LATER   := --no-compile
endif

.PHONY: train test test-nightly coverage lock stub test-matrix bench-check docs notebooks results lint types env clean
.DEFAULT_GOAL := test

# What two minutes buy on text that Python itself carries; ARGS="..." adds flags, and changes these.
TRAIN := --tied --dropout 0.4 --epochs 12 --lr 0.005 --schedule cosine

train: $(RUN)  ## train a language model
	$(BIN)/tinygrad-rnn train $(TRAIN) $(ARGS)

# Bytecode is kept, whatever the shell says: the tests start hundreds of processes. One BLAS thread (below): their
# products are tiny, and on a busy machine two threads wait for each other.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

test: lint types  ## lint, types, then the tests of the day, on all cores
	OPENBLAS_NUM_THREADS=1 $(PYTEST) $(ARGS)

test-nightly: $(STAMP)  ## what `make test` leaves out: long tests, and all combinations of the rows of a test's tables
	OPENBLAS_NUM_THREADS=1 $(PYTEST) -m nightly $(ARGS)

# Lines and branches of the package that the tests reach; fails below the floor in pyproject.toml.
coverage: lint types
	OPENBLAS_NUM_THREADS=1 $(PYTEST) --cov --cov-report=term $(ARGS)

# What the environment is built from, after a change of pyproject.toml; needs uv.
LOCK := --python-version 3.11 --universal --generate-hashes --no-header --no-annotate --quiet
lock:
	uv pip compile pyproject.toml --group dev $(LOCK) --output-file requirements.lock
	uv pip compile pyproject.toml --group run -c requirements.lock $(LOCK) --output-file requirements-run.lock

# Other BLAS kernels, CPU levels, threads, Pythons and NumPys: about half an hour on two cores (ARGS="ROW..." for some).
test-matrix: $(STAMP)
	$(BIN)/python tests/matrix.py $(ARGS)

# Fails if a training step got slower than at the commit before (ARGS="--base v0.2.0" for another one).
bench-check: $(STAMP)
	$(BIN)/python benchmarks/speed_gate.py $(ARGS)

stub: $(STAMP)  ## the public names as type checkers read them, from the table in __init__.py
	$(BIN)/python .ci/stub.py

docs: $(STAMP)  ## the site, in build/site
	$(BIN)/python docs/make_site.py

notebooks: $(STAMP)  ## the lessons as notebooks, in build/notebooks
	$(BIN)/python docs/make_notebooks.py

results: $(STAMP)  ## every result that the project states, again; ARGS="--data FOLDER" for texts that are not part of it
	$(BIN)/python benchmarks/reproduce.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# On all cores; its workers give up where they do not start within three seconds, and then one process does it.
types: $(STAMP)
	$(BIN)/mypy --num-workers auto || $(BIN)/mypy

env: $(STAMP)

# What runs the package comes first, as it installs in seconds; what tests it is many times as large.
$(RUN): pyproject.toml requirements-run.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "tinygrad_rnn needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
ifneq ($(UV),)
	$(UV) venv --quiet --clear --python $(PYTHON) $(VENV)
else
	$(PYTHON) -m venv --clear $(VENV)
endif
	$(INSTALL) --require-hashes -r requirements-run.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $(RUN)

# Compiling all of it takes as long as the rest; the tests compile what they import (uv does so by itself).
$(STAMP): $(RUN) requirements.lock
	$(INSTALL) $(LATER) --require-hashes -r requirements.lock
	@touch $(STAMP)

clean:
	rm -rf build $(VENV) .venv-matrix .mypy_cache .pytest_cache .ruff_cache .hypothesis
