# Two targets, each of which does all its own set-up on a fresh machine.
#   make demo   a Caffe model of digits: convert, prove, finetune, verify unseen digits, export, load again
#   make test   lint, types and all tests; the first time it builds two Caffe trees, some minutes each
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint caffe clean

demo: $(VENV)/installed
	$(BIN)/python examples/digits/demo.py

test: $(VENV)/installed-dev lint caffe
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Real Caffe with the layers of caffe_layers/, built once and kept outside the repository (tests/caffe_trees.py).
caffe: $(VENV)/installed-dev
	$(BIN)/python tests/caffe_trees.py

# torch first: a later resolution may choose its CUDA build, which is several gigabytes.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[cpu]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) -e '.[cpu,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build out
