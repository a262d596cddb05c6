# Everything that is done with a clone of LayerHub. Assumed: Python 3.11 or newer and GNU make; `make help` lists it.
# pip's own variables (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, ...) and configuration files are honoured.

PYTHON ?= python3
VENV ?= .venv
BACKENDS ?= numpy
WORKERS ?= 2
ARGS ?=

# numpy is in the core. A new plugin: its backend's name here, and its folder below.
comma := ,
KNOWN := numpy torch tensorflow jax
FOLDER_torch := plugins/torch_backend
FOLDER_tensorflow := plugins/tf_backend
FOLDER_jax := plugins/jax_backend

PY := $(VENV)/bin/python
STAMPS := $(VENV)/.layerhub
# Backends that are examples are installed beside the environment, so that nothing but their own tests runs on them.
EXAMPLES := $(STAMPS)/examples
PROJECTS := pyproject.toml conformance/pyproject.toml $(foreach name,$(KNOWN),$(FOLDER_$(name):=/pyproject.toml))
DEVELOPING := test lint format conformance bench docs

# An unknown backend, or a Python that one of them has no wheels for, is told before anything is installed.
UNKNOWN := $(filter-out $(KNOWN),$(BACKENDS))
WANTED := $(if $(filter $(DEVELOPING),$(MAKECMDGOALS)),$(KNOWN),$(BACKENDS))
ASKED := $(if $(filter file,$(origin PYTHON)),,--asked "$(PYTHON)")

export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo clean clean-all known preflight $(DEVELOPING)
.NOTPARALLEL:

help:
	@echo 'make demo         the main job: handwritten digits, on numpy, or on every backend that is installed'
	@echo '                  make demo BACKENDS="numpy torch tensorflow jax" installs these first'
	@echo 'make test         installs everything; lint, type check and tests, as continuous integration does'
	@echo 'make lint         ruff and mypy alone            make format       lets ruff rewrite the files'
	@echo 'make conformance  every layer on every backend   make bench        LayerHub beside hand-written code'
	@echo 'make docs         the generated parts of the documentation'
	@echo 'make clean        removes caches and outputs     make clean-all    also the environment'
	@echo
	@echo 'Variables: PYTHON=$(PYTHON)  VENV=$(VENV)  BACKENDS="$(BACKENDS)"  WORKERS=$(WORKERS) (of the tests)'
	@echo '           ARGS="..." goes on to pytest, the conformance suite or the benchmarks'

demo: known $(BACKENDS:%=$(STAMPS)/%) $(STAMPS)/numpy
	$(PY) examples/digits.py $(if $(filter file,$(origin BACKENDS)),,--backends $(BACKENDS))
	$(if $(filter-out $(BACKENDS),$(KNOWN)),@echo 'More backends: make demo BACKENDS="$(KNOWN)"')

test: lint $(EXAMPLES)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)
	OMP_NUM_THREADS=1 $(PY) -m pytest --pyargs layerhub_conformance --layerhub-tier quick -n $(WORKERS) \
		$(foreach name,$(filter-out jax,$(KNOWN)),--layerhub-backend $(name)) $(ARGS)
	OMP_NUM_THREADS=1 $(PY) -m pytest --pyargs layerhub_conformance --layerhub-tier smoke --layerhub-backend jax \
		-n $(WORKERS) $(ARGS)
	OMP_NUM_THREADS=1 PYTHONPATH=$(EXAMPLES) $(PY) -m pytest examples/onnx_backend/tests -n $(WORKERS) $(ARGS)
	OMP_NUM_THREADS=1 PYTHONPATH=$(EXAMPLES) $(VENV)/bin/layerhub conformance --backend onnxruntime --tier smoke

lint: $(STAMPS)/everything
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

format: $(STAMPS)/everything
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

conformance: $(STAMPS)/everything
	$(VENV)/bin/layerhub conformance $(ARGS)

bench: $(STAMPS)/everything
	$(PY) -m benchmarks $(ARGS)

docs: $(STAMPS)/everything
	$(PY) tools/generate.py

clean:
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path './.*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Only what is an environment, whatever VENV says.
clean-all: clean
	@if [ -f $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi

# The environment. One that is there already, from an earlier run or made by hand, is used; what is missing is added.

known:
	@$(if $(UNKNOWN),echo 'LayerHub: no plugin here is called $(UNKNOWN); BACKENDS may name: $(KNOWN)' >&2; exit 1,:)

preflight: known
	@if [ -x $(PY) ]; then $(PY) tools/preflight.py $(ASKED) $(WANTED); \
	elif [ -L $(PY) ]; then \
		echo 'LayerHub: the Python that $(VENV) was made with is gone; remove that folder' >&2; exit 1; \
	elif command -v $(PYTHON) >/dev/null; then $(PYTHON) tools/preflight.py --new $(WANTED); \
	else \
		echo 'LayerHub: there is no $(PYTHON); install Python 3.11 or newer, or name one: make PYTHON=...' >&2; exit 1; \
	fi

$(PY): | preflight
	$(PYTHON) -m venv $(VENV)

# An environment that was made without pip, or left half made, gets it first.
define install
@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip
$(PY) -m pip install -c constraints.txt $(1)
@mkdir -p $(STAMPS) && touch $(2)
endef

$(STAMPS)/numpy: pyproject.toml constraints.txt | $(PY)
	$(call install,-e '.[demo$(comma)files]',$@)

$(STAMPS)/everything: $(PROJECTS) constraints.txt | $(PY)
	$(call install,-e '.[demo$(comma)files$(comma)dev]' $(foreach name,$(KNOWN),$(FOLDER_$(name):%=-e %)) -e conformance,\
		$@ $(KNOWN:%=$(STAMPS)/%))

$(EXAMPLES): $(wildcard examples/onnx_backend/pyproject.toml examples/onnx_backend/*/*.py) $(STAMPS)/everything
	$(PY) -m pip install --no-deps --no-build-isolation --upgrade --target $@ ./examples/onnx_backend
	@touch $@

define plugin
$(STAMPS)/$(1): $(FOLDER_$(1))/pyproject.toml constraints.txt | $(STAMPS)/numpy
	$$(call install,-e $(FOLDER_$(1)),$$@)
endef
$(foreach name,$(filter-out numpy,$(KNOWN)),$(eval $(call plugin,$(name))))
