# Each target does its own set-up on a fresh machine, in .venv.
#   make demo            a Caffe model of digits: convert, prove, finetune, verify unseen digits, export, load again
#   make test            lint, types and all tests; the first time it builds two Caffe trees, some minutes each
#   make test-fast       lint, types and the tests that need neither Caffe nor nvcc
#   make experiments     the slides' claims, measured and drawn, into out/
#   make caffe-packages  Debian's packages that building Caffe needs (asks apt)
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-fast lint caffe caffe-packages experiments clean

demo: $(VENV)/installed
	$(BIN)/python examples/digits/demo.py

test: $(VENV)/installed-dev lint caffe
	$(BIN)/python -m pytest

test-fast: $(VENV)/installed-dev lint
	NORMFACE_TESTS=fast $(BIN)/python -m pytest

experiments: $(VENV)/installed-dev
	$(BIN)/python -m experiments all

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Real Caffe with the layers of caffe_layers/, built once and kept outside the repository (tests/support/caffe_trees.py).
caffe: $(VENV)/installed-dev
	$(BIN)/python tests/support/caffe_trees.py

caffe-packages: $(VENV)/installed-dev
	$(BIN)/python tests/support/caffe_trees.py packages

# torch first: a later resolution may choose its CUDA build, which is several gigabytes.
$(VENV)/installed: converter/pyproject.toml python/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e './converter[cpu]' -e ./python
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) build out
