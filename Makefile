# Each target does its own set-up on a fresh machine, in .venv.
#   make demo            a Caffe model of digits: convert, prove, finetune, verify unseen digits, export, load again
#   make test            lint, types and all tests; the first time it builds two Caffe trees, some minutes each
#   make test-fast       lint, types and the quick tests, which need neither Caffe nor nvcc, in some minutes
#   make docs            the documentation's site into out/site, with an environment of its own, .venv-docs
#   make experiments     the slides' claims, measured and drawn, into out/
#   make fuzz            random inputs for every reader and layer for SECONDS=60; findings go to out/fuzz
#   make gpu-check       what runs on a GPU, on this machine's: a table, within ten minutes; without one it says so
#   make caffe-packages  Debian's packages that building Caffe needs (asks apt); nothing else installs them, but in CI
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# A test process takes a GB; the tests of a file stay together, for what they share.
ALL_CORES := -n auto --maxprocesses 8 --dist loadfile

.PHONY: demo say-demo test say-test test-fast say-test-fast lint docs caffe caffe-packages experiments fuzz gpu-check clean

demo: say-demo $(VENV)/installed
	$(BIN)/python examples/digits/demo.py

say-demo:
	@echo "make demo: a Caffe model of digits, all the way in four parts, in less than a minute; it writes to out/digits."
	@test -e $(VENV)/installed || echo "The first time it sets up $(VENV): PyTorch and what else the packages need, 1.5 GB."

test: say-test $(VENV)/installed-dev lint caffe
	$(BIN)/python tests $(ALL_CORES)

say-test:
	@echo "make test: lint and types (a minute), all tests (some twenty minutes on two cores)."
	@echo "The first time it also sets up $(VENV) and builds two Caffe trees in ~/.cache/normface, some minutes each;"
	@echo "where packages for that are missing, their tests are skipped by name. make test-fast takes less."

test-fast: say-test-fast $(VENV)/installed-dev lint
	NORMFACE_TESTS=fast $(BIN)/python tests -m "not slow" $(ALL_CORES)

say-test-fast:
	@echo "make test-fast: lint, types, and the tests that are quick and need neither Caffe nor nvcc, in three minutes"
	@echo "on two cores, and more the first time, for setting up $(VENV). make test runs all."

experiments: $(VENV)/installed-dev
	$(BIN)/python -m experiments all

gpu-check: $(VENV)/installed-dev
	$(BIN)/python benchmarks/gpu_check.py

# The API's pages come from the source as text, so that neither package nor torch is installed for them.
docs: $(VENV)-docs/installed
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/python -m mkdocs build --strict
	@echo "open out/site/index.html, or: python3 -m http.server -d out/site"

$(VENV)-docs/installed: docs/requirements.txt constraints.txt
	@echo "make docs: setting up $(VENV)-docs, some 200 MB (first run only)"
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r docs/requirements.txt
	@touch $@

SECONDS ?= 60
fuzz: $(VENV)/installed-dev
	PYTHONPATH=python:converter:tests:. $(BIN)/python -m fuzz --seconds $(SECONDS)

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
	@echo "setting up $(VENV), 1 of 3: an environment of $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV), 2 of 3: PyTorch, which is the most of it ($$(date +%H:%M:%S))"
	@$(PIP) torch
	@echo "setting up $(VENV), 3 of 3: caffeport, normface, OpenCV, SciPy, ONNX Runtime, Matplotlib ($$(date +%H:%M:%S))"
	@$(PIP) -e './converter[cpu]' -e ./python
	@echo "$(VENV) is ready ($$(date +%H:%M:%S))"
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@echo "setting up $(VENV): what lint and tests need ($$(date +%H:%M:%S))"
	@$(PIP) -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-docs build out
