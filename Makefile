# The set-up of hpcompss, from a fresh machine with Python:
#   make tune    tunes a small network on the digits images and prints the best one
#   make test    runs the tests
#   make test-compss  runs those for real COMPSs, where runcompss is on PATH
#   make lint    runs the linter, the formatter's check and the type checker
#   make bench   runs the benchmarks
#   make bench-samplers  runs the samplers' one, in its short form
#   make bench-fidelity  runs the schedulers' one, in its short form
#   make clean   removes what these made; studies are kept
# PYTHON=... says which Python to use (3.10 to 3.13), VENV=... where the virtual environment goes.

VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# That it runs is not enough: Debian's Python has no ensurepip until python3-venv is installed.
USABLE := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10
PYTHON ?= $(shell for candidate in $(CANDIDATES); do \
	"$$candidate" -c '$(USABLE)' 2>/dev/null && echo "$$candidate" && break; done)

.PHONY: tune test test-compss lint bench bench-samplers bench-fidelity clean
.DELETE_ON_ERROR:

tune: $(VENV)/.installed-tensorflow-cpu
	$(BIN)/hpcompss run workflows/digits.yaml

# Two at once, for much of the time tests wait; those of one file one after the other, for they share servers.
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-compss: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m compss -rs

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-bench
	@for benchmark in $(filter-out %/common.py $(wildcard benchmarks/sampler*.py benchmarks/fidelity*.py),$(wildcard benchmarks/*.py)); do \
		echo "== $$benchmark"; $(BIN)/python "$$benchmark" || exit 1; done

bench-samplers: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/samplers.py --short

bench-fidelity: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/fidelity.py --short

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# One stamp for each extra; the package is linked, so only its set-up files make it old.
$(VENV)/.installed-%: setup.py pyproject.toml | $(BIN)/python
	@echo "Installing hpcompss[$*] into $(VENV): a few minutes the first time"
	@$(INSTALL) --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
		echo "No Python 3.10 to 3.13 with venv found: install one (Debian: apt install python3-venv)," \
		"or name one with PYTHON=..." >&2; exit 1; }
	@echo "Making the virtual environment $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
