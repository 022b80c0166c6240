# Targets install what they need into .venv. The machine needs only python3 (3.11 to 3.13) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STUBS := $(patsubst protos/%.proto,%,$(wildcard protos/pgkeras/v1/*.proto))

.PHONY: docs help quickstart test test-slow test-packaging dist test-clients lint format protos clean

help: ## Show this help.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

quickstart: $(VENV)/.run ## Train, export, serve and play CartPole: the whole pipeline in one command.
	$(BIN)/pgkeras quickstart

# Two more processes than available cores, because tests sometimes wait for other processes.
WORKERS = $(shell $(BIN)/python -c "from pgkeras import cores; print(min(4, cores.available() + 2))")

test: $(VENV)/.dev ## Run the tests, with up to four processes.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: $(VENV)/.dev ## Run the slow tests as well.
	$(BIN)/python -m pytest -m "slow or not slow"

test-packaging: $(VENV)/.dev ## Build the package, check it, and install it on every installed Python.
	$(BIN)/python -m pytest -m slow tests/packaging

dist: $(VENV)/.dev ## Build the files of a release, with a bill of materials, into dist/.
	rm -rf dist
	$(BIN)/uv build --quiet
	$(BIN)/twine check --strict dist/*
	$(BIN)/cyclonedx-py environment --output-file dist/bill-of-materials.json $(BIN)/python

test-clients: $(VENV)/.dev ## Build and check the clients whose toolchain is installed (REQUIRE=all: fail if one is not).
	$(BIN)/python -m conformance $(if $(REQUIRE),--require $(REQUIRE))

docs: $(VENV)/.dev ## Build the documentation site into build/site.
	$(BIN)/mkdocs build

lint: $(VENV)/.dev $(VENV)-protos/.installed ## Check style, types, imports, the protocol and the committed stubs.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	rm -rf build/protos && mkdir -p build/protos
	$(call generate,build/protos)
	for stub in build/protos/pgkeras/v1/*; do cmp "$$stub" "pgkeras/v1/$$(basename "$$stub")" || \
	  { echo "The committed stubs are out of date: run make protos."; exit 1; }; done

format: $(VENV)/.dev ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(VENV)-protos/.installed $(VENV)/.dev ## Generate the committed stubs of Python and of the clients from protos/.
	$(call generate,.)
	$(BIN)/python -m conformance.reference
	$(BIN)/python -m conformance --generate

clean: ## Remove the virtual environments and all build outputs.
	rm -rf $(VENV) $(VENV)-protos build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The generator is deliberately older than the runtime, because its code loads on protobuf 6.31.1 and on 7.
define generate
	$(VENV)-protos/bin/python -m grpc_tools.protoc -Iprotos --python_out=$(1) --pyi_out=$(1) $(STUBS:%=%.proto)
	$(VENV)-protos/bin/python -m grpc_tools.protoc -Iprotos --grpc_python_out=$(1) pgkeras/v1/service.proto
endef

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else \
	  "pgkeras needs Python 3.11 to 3.13; select one with: make PYTHON=python3.12")'
	@echo "Creating $(VENV) and installing into it; this takes a minute or two."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --upgrade pip -c constraints.txt
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml constraints.txt
	@$(PIP) install --quiet -e ".[serve,train]" -c constraints.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Installing the dependencies of tests and checks into $(VENV)."
	@$(PIP) install --quiet -e ".[all,docs,hub,mlflow,ray,trace,tune,wandb]" --group test --group benchmarks --group lint -c constraints.txt
	@touch $@

$(VENV)-protos/.installed: Makefile
	@$(PYTHON) -m venv $(VENV)-protos
	@$(VENV)-protos/bin/python -m pip --disable-pip-version-check install --quiet grpcio-tools==1.76.0 setuptools==80.9.0
	@touch $@
