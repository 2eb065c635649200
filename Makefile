# `make` alone prints the commands. Everything runs in .venv, made here when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
REPORT := $(VENV)/contract.json

.DEFAULT_GOAL := help
.PHONY: help install demo notebooks check test test-policy mutants test-lowest test-pythons test-notebooks test-sdk test-contract test-fake-cuda compiler image image-mms test-image lock sbom java registry contract docs test-gpu gpu-day bench bench-docs storm fuzz test-hostile

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP) ## make .venv with everything the other commands need

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## serve five real models from a local endpoint, with memory for three of them
	$(BIN)/python scripts/demo.py

notebooks: $(STAMP) ## run the notebooks on the local platform and save their outputs
	$(BIN)/python -m tests.notebooks.execute

check: $(STAMP) ## check style, types, import rules, Dockerfile, scripts, template, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck .ci/run image/*.sh scripts/*.sh benchmarks/gpu/*.sh tests/fake_cuda/runtime/*.sh
	PATH=$(CURDIR)/$(BIN):$$PATH image/audit.sh
	$(BIN)/cfn-lint scripts/cloudformation/*.yaml

# Two processes take the files of tests in turn; much of a test is waiting. WORKERS=0: one after the other
WORKERS ?= 2
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: check ## all tests but the slower tiers below
	$(BIN)/python -m pytest tests --ignore=tests/notebooks $(PARALLEL) --contract-report=$(REPORT)
	$(BIN)/python -m pytest tests/contract/test_worker_death.py tests/contract/test_robustness.py $(PARALLEL) --workers=1
	$(BIN)/python -m tests.contract.document $(REPORT) --check

POLICY := tests/model_handler/memory tests/model_handler/sharing tests/model_handler/engine \
  $(foreach name,engine start,--ignore=tests/model_handler/engine/test_$(name).py)

test-policy: $(STAMP) ## test only what decides: memory, turns, batches, placement, recovery; in 30 s
	$(BIN)/python -m pytest $(POLICY)

$(VENV)/.mutation: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,mutation]'
	@touch $@

mutants: $(VENV)/.mutation ## change what decides in 2,000 ways, and require that test-policy notices nine of ten; 1 h
	$(BIN)/python -m tests.mutation $(MUTANTS)

test-notebooks: $(STAMP) ## test that the notebooks run and that their saved outputs are current
	$(BIN)/python -m pytest tests/notebooks

SDKS := v2 core mms
SDK_STAMPS := $(SDKS:%=.venv-%/.installed)
SDK_PACKAGES_v2 := sagemaker pytest
SDK_PACKAGES_core := sagemaker-core pytest
SDK_PACKAGES_mms := multi-model-server sagemaker-inference setuptools

$(SDK_STAMPS): .venv-%/.installed: tests/sdk/constraints-%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -c $< $(SDK_PACKAGES_$*)
	@touch $@

java:
	@command -v java >/dev/null || { apt-get update --quiet && \
	  apt-get install --yes --quiet --no-install-recommends openjdk-17-jre-headless; } || \
	  { echo "Java is missing: as root, apt-get install openjdk-17-jre-headless" >&2; exit 1; }

SDK_TEST := -m pytest -c tests/sdk/pytest.ini --rootdir=tests/sdk

test-sdk: $(STAMP) $(SDK_STAMPS) java ## test the local platform with both SageMaker SDKs and with multi-model-server
	.venv-v2/bin/python $(SDK_TEST) tests/sdk/v2
	.venv-core/bin/python $(SDK_TEST) tests/sdk/core
	$(BIN)/python $(SDK_TEST) tests/sdk/mms

CONTRACT = $(BIN)/python -m pytest tests/contract --contract-report=$(REPORT) \
  --target=$(or $(TARGET),process) --artifacts=$(or $(ARTIFACTS),huggingface) $(OPTIONS)

contract: $(STAMP) ## run the conformance suite: make contract TARGET=process|app|mms|image ARTIFACTS=huggingface|code
	$(CONTRACT)

docs: $(STAMP) ## run it and write the results into docs/contract.md: make docs TARGET=… ARTIFACTS=…
	$(CONTRACT)
	$(BIN)/python -m tests.contract.document $(REPORT)

test-contract: $(STAMP) ## run the conformance suite with artifacts that contain code, each in its own process
	$(MAKE) contract ARTIFACTS=code OPTIONS="$(PARALLEL)"
	$(BIN)/python -m tests.contract.document $(REPORT) --check

# Environment with PyTorch's CUDA build, 3 GB; FAKE_CUDA_VENV=… names an existing one to use instead
FAKE_CUDA_VENV ?= .venv-fake-cuda
FAKE_CUDA_STAMP = $(filter .venv-fake-cuda/.installed,$(FAKE_CUDA_VENV)/.installed)
FAKE_CUDA_RUNTIME := build/fake_cuda

# "===", because "==" would also accept a CPU build, whose version ends in "+cpu"
.venv-fake-cuda/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-fake-cuda
	.venv-fake-cuda/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  "$$(sed -n 's/^torch==/torch===/p' constraints.txt)" nvidia-cuda-crt
	.venv-fake-cuda/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

compiler:
	@command -v g++ >/dev/null || { apt-get update --quiet && \
	  apt-get install --yes --quiet --no-install-recommends g++; } || \
	  { echo "A compiler is missing: as root, apt-get install g++" >&2; exit 1; }

test-fake-cuda: $(FAKE_CUDA_STAMP) compiler ## test the server with PyTorch's CUDA build on a fake CUDA runtime, without a GPU
	tests/fake_cuda/runtime/build.sh "$$($(FAKE_CUDA_VENV)/bin/python -c \
	  'import sysconfig; print(sysconfig.get_path("purelib"))')" $(FAKE_CUDA_RUNTIME)
	. $(FAKE_CUDA_RUNTIME)/env.sh && \
	  $(FAKE_CUDA_VENV)/bin/python -m pytest -c tests/fake_cuda/pytest.ini --rootdir=. tests/fake_cuda && \
	  $(FAKE_CUDA_VENV)/bin/python -m pytest -c tests/fake_cuda/pytest.ini --rootdir=. \
	    tests/model_handler -m gpu -k 'not answers'

# Environments with other versions than .venv. PyTorch's build on PyPI requires several GB of CUDA libraries; they are
# not installed, because the tests run without them (tests/versions/cpu_torch.py)
TORCH_NEEDS := filelock fsspec jinja2 networkx sympy typing-extensions
TESTERS := hypothesis onnx onnxscript psutil pytest pytest-timeout pytest-xdist
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-warn-conflicts

define environment
	$(1) -m venv $(2)
	$(PYTHON) tests/versions/declared.py > $(2)/requirements.txt
	$(2)/bin/python $(PIP_INSTALL) -c $(3) --no-deps torch nvidia-cuda-runtime
	$(2)/bin/python $(PIP_INSTALL) -c $(3) -r $(2)/requirements.txt $(TORCH_NEEDS) $(TESTERS)
	$(2)/bin/python tests/versions/cpu_torch.py
endef

# Pins of constraints-lowest.txt replace those of constraints.txt
.venv-lowest/.installed: pyproject.toml constraints.txt constraints-lowest.txt tests/versions/cpu_torch.py
	@mkdir -p .venv-lowest
	awk -F== '!/^#/ && !seen[$$1]++' constraints-lowest.txt constraints.txt > .venv-lowest/constraints.txt
	$(call environment,$(PYTHON),.venv-lowest,.venv-lowest/constraints.txt)
	@touch $@

# Tests of code that uses libraries. To stay under eight minutes on two cores, these are left out: test_engine, which
# waits for processes and deadlines (nearly half the time of tests/model_handler), and conformance cases that depend on
# the engine's policy only
CONTRACT_FILES := $(foreach name,invoke load unload robustness headers life,tests/contract/test_$(name).py)
LOWEST := tests/model_handler --ignore=tests/model_handler/engine/test_engine.py \
  $(foreach name,protocol bodies server,tests/container/http/test_$(name).py) $(CONTRACT_FILES)

test-lowest: .venv-lowest/.installed ## test code that uses libraries, with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest $(LOWEST) $(PARALLEL)

PYTHONS := 3.12 3.13
# The interpreter of a Python version: from PATH, else from pyenv's folder
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
python = $(firstword $(shell python$(1) -c 'import sys; print(sys.executable)' 2>/dev/null) \
  $(wildcard $(PYENV)/$(1).*/bin/python$(1)))
FOUND = $(foreach version,$(PYTHONS),$(if $(call python,$(version)),$(version)))

.venv-3.%/.installed: pyproject.toml constraints.txt tests/versions/cpu_torch.py
	$(call environment,$(call python,3.$*),.venv-3.$*,constraints.txt)
	@touch $@

# Tests of code that depends on the interpreter: processes, event loop, archives, conversions, and one model of each
# kind. multi-model-server is tested with the oldest Python only and is not in these environments
NEWER := tests/versions tests/container --ignore=tests/container/mms/test_multi_model_server.py \
  tests/emulator/containers/test_archive.py tests/scripts/test_package.py tests/model_handler/formats \
  tests/model_handler/scripted $(foreach name,engine/test_engine loading/test_loader codecs/test_toolkit,tests/model_handler/$(name).py) \
  $(foreach name,invoke life,tests/contract/test_$(name).py)

test-pythons: ## test code that depends on the interpreter, with Python 3.12 and 3.13 where installed
	@echo "Python found: $(or $(FOUND),neither 3.12 nor 3.13; nothing is tested)"
	@set -e; for version in $(FOUND); do \
	  $(MAKE) .venv-$$version/.installed; \
	  echo "Python $$version:"; \
	  .venv-$$version/bin/python -m pytest $(NEWER) $(PARALLEL); \
	done

image: ## build the image localhost/mme:cpu, with or without a Docker engine: make image FLAVOR=cpu|gpu
	image/build.sh $(or $(FLAVOR),cpu)

sbom: $(STAMP) ## list the image's Python packages as CycloneDX in build/sbom.json
	@mkdir -p build
	PATH=$(CURDIR)/$(BIN):$$PATH image/sbom.sh > build/sbom.json

UV_COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --constraints constraints.txt \
  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --custom-compile-command 'make lock'

lock: $(STAMP) ## write image/*.lock, the image's packages with hashes; UPGRADE=--upgrade updates unpinned ones
	$(UV_COMPILE) $(UPGRADE) pyproject.toml --extra formats --excludes image/not-locked.txt --no-emit-package torch \
	  --output-file image/requirements.lock > /dev/null
	printf 'setuptools\nwheel\n' | $(UV_COMPILE) $(UPGRADE) - --output-file image/build.lock > /dev/null
	echo multi-model-server | $(UV_COMPILE) $(UPGRADE) - --output-file image/multi-model-server.lock > /dev/null

registry:
	@command -v docker-registry >/dev/null || { apt-get update --quiet && \
	  apt-get install --yes --quiet --no-install-recommends docker-registry; } || \
	  { echo "A registry is missing: as root, apt-get install docker-registry" >&2; exit 1; }

image-mms: ## build the image with multi-model-server and Java, for MME_FRONT=multi-model-server
	IMAGE=$(or $(IMAGE),localhost/mme:cpu)-multi-model-server FRONT=multi-model-server $(MAKE) image

test-image: $(STAMP) image image-mms registry ## test the built image: conformance, five models on two instances, a push to a registry
	$(MAKE) contract TARGET=image
	$(BIN)/python -m tests.contract.document $(REPORT) --check
	$(BIN)/python -m pytest -c tests/image/pytest.ini --rootdir=. tests/image

STORM_SECONDS ?= 300
FUZZ_SECONDS ?= 600

storm: $(STAMP) ## kill and stop processes under hostile artifacts and requests: make storm STORM_SECONDS=300 SEED=…
	$(BIN)/python -m tests.storm --seconds $(STORM_SECONDS) $(if $(SEED),--seed $(SEED))

fuzz: $(STAMP) ## mutate artifacts, requests and archives: make fuzz FUZZ_SECONDS=600 SEED=…; failures into build/fuzz
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(if $(SEED),--seed $(SEED))

test-hostile: $(STAMP) ## attack a server with hostile artifacts, requests and connections; storm and fuzz for a minute each
	$(BIN)/python -m pytest -o addopts='-ra --strict-markers --strict-config -p no:cacheprovider' tests/hostile
	$(MAKE) storm STORM_SECONDS=60
	$(MAKE) fuzz FUZZ_SECONDS=60

GPU_DAY_SECONDS ?= 480

gpu-day: $(STAMP) ## run the measurements that need a GPU, as many as fit, into build/gpu-day/gpu_day.json: make gpu-day GPU_DAY_SECONDS=480
	$(BIN)/python -m benchmarks.gpu --seconds $(GPU_DAY_SECONDS) --output build/gpu-day

test-gpu: $(STAMP) ## run the tests that need a CUDA device
	$(BIN)/python -m pytest tests -m gpu

RESULTS ?= build/bench-results

.venv-hf/.installed: benchmarks/peers/constraints-hf.txt
	$(PYTHON) -m venv .venv-hf
	.venv-hf/bin/python -m pip install --quiet --disable-pip-version-check -c $< \
	  torch sagemaker-huggingface-inference-toolkit multi-model-server setuptools transformers
	@touch $@

.venv-triton/.installed: benchmarks/peers/constraints-triton.txt
	$(PYTHON) -m venv .venv-triton
	.venv-triton/bin/python -m pip install --quiet --disable-pip-version-check -c $< torch
	.venv-triton/bin/python -m pip install --quiet --disable-pip-version-check -c $< \
	  nvidia-pytriton transformers
	@touch $@

# Triton is installed only for scenarios that use it: it needs Linux on x86-64 with glibc 2.35
BENCH_PEERS = .venv-hf/.installed $(if $(or $(findstring triton,$(SCENARIO)),$(filter cores,$(SCENARIO))),.venv-triton/.installed)

bench: $(STAMP) $(BENCH_PEERS) java ## measure the container, plain PyTorch and another server: make bench SCENARIO=hot-tiny-032
	$(BIN)/python -m benchmarks $(SCENARIO) --output $(RESULTS)

bench-docs: $(STAMP) ## write results into docs/performance.md, README and docs/sizing.md: make bench-docs RESULTS=…
	$(BIN)/python -m benchmarks.document $(RESULTS)
	$(BIN)/python -m benchmarks.eviction_table
	$(BIN)/python -m benchmarks.simulation.tables
	$(BIN)/python -m benchmarks.demo_animation
