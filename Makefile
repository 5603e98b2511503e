# Everything here works on a machine with Python 3.11 or newer and make. uv is used where it is there, else venv and pip.
# PYTHON=python3.13 chooses another interpreter.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
STAMP := $(VENV)/.installed

# The layer (docs/layer.md): LAYER_PYTHON names the interpreter to carry: a program or its directory, or `debian` or
# `uv`, which fetch one; without it the builder takes the best that can be had. LAYER_MIRROR is the address of Debian's
# archive, LAYER_ARCH is x86_64 or arm64. LAYER_PACKAGES are packages with sinks to put into it, LAYER_STDLIB modules of
# the standard library that they need and the layer leaves out. LAYER_OPTIONS is for more of what `python -m layer --help` lists.
LAYER_PYTHON ?=
LAYER_MIRROR ?=
LAYER_ARCH ?= $(shell uname -m)
LAYER_PACKAGES ?=
LAYER_STDLIB ?=
LAYER_OPTIONS ?=
LAYER_ZIP := dist/telemetry-forwarder-layer-$(patsubst aarch64,arm64,$(LAYER_ARCH)).zip
BUILD_LAYER = $(BIN)/python -m layer --arch $(LAYER_ARCH) $(if $(LAYER_PYTHON),--python '$(LAYER_PYTHON)') \
	$(if $(LAYER_MIRROR),--mirror '$(LAYER_MIRROR)') $(foreach one,$(LAYER_PACKAGES),--package '$(one)') \
	$(foreach one,$(LAYER_STDLIB),--stdlib '$(one)') $(LAYER_OPTIONS)

# sam pins versions that other tools here do not want, so it lives alone. It sends nothing home and needs no account.
SAM_VENV := .venv-sam
SAM_LOCK := requirements-sam.lock
SAM_STAMP := $(SAM_VENV)/.installed
SAM := SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 $(SAM_VENV)/bin/sam

# Receivers that we did not write, for tests: one of OTLP, one of OpenSearch's API; there are wheels for these alone.
FOREIGN := rotel>=0.0.1a15 ; python_version < '3.14' and sys_platform == 'linux'\nosmem-server>=0.1.6 ; sys_platform == 'linux'
FOREIGN_LOCK := requirements-foreign.lock

.DEFAULT_GOAL := help
.PHONY: help install run test matrix soak bench bench-quick scale memory fidelity check fmt fmt-check lint type layer qemu publish template otlp-schema promtool foreign victorialogs node-sdk lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: $(STAMP) ## set up .venv with the locked versions

$(STAMP): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=/path/to/python")'
	@$(PYTHON) -I layer/locked.py $(VENV) $(LOCK) --editable .
	@touch $@

run: install ## a local Lambda with a sample function, this extension and three local backends (PAGE=1: on a page)
	@$(BIN)/telemetry-forwarder demo $(if $(PAGE),--page)

test: install ## the whole test suite
	$(BIN)/python -m pytest -rs -n auto --dist worksteal

matrix: install ## the fault matrix, whole: about fifteen minutes on two cores (JOBS: environments at once)
	$(BIN)/python -m tests.matrix.run $(if $(JOBS),--jobs $(JOBS)) --write build/fault-matrix.md

soak: install ## 2,000 invocations with random faults: at most fifteen minutes (SEED repeats a run)
	$(BIN)/python -m tests.matrix.soak $(if $(SEED),--seed $(SEED))

bench: install ## what the extension and the local Lambda cost, measured in one run (BEFORE: a git ref or a checkout)
	$(BIN)/python -m benchmarks.run $(if $(BEFORE),--before '$(BEFORE)')
	$(BIN)/python -m benchmarks.pieces
	$(BIN)/python -m benchmarks.local_lambda
	$(BIN)/python -m benchmarks.held
	$(BIN)/python -m benchmarks.stalls
	$(BIN)/python benchmarks/secrets_cache.py

bench-quick: install ## what got worse since benchmarks/baseline.json: about a minute (RENEW=1 writes that anew: three)
	$(BIN)/python -m benchmarks.quick $(if $(RENEW),--renew)

memory: install ## what 500 MB of records into dead backends cost in memory, disk and time (minutes)
	$(BIN)/python benchmarks/memory.py

fidelity: install ## write docs/fidelity.md and docs/transcripts anew
	$(BIN)/python -m tests.fidelity.table
	$(BIN)/python -m tests.integration.transcripts

check: fmt-check lint type test ## what continuous integration runs

fmt: install ## format the code
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

fmt-check: install
	$(BIN)/ruff format --check .

lint: install ## lint the code
	$(BIN)/ruff check .

type: install ## check the types (mypy, strict)
	$(BIN)/mypy

layer: install ## build dist/telemetry-forwarder-layer-ARCH.zip (LAYER_PACKAGES, LAYER_PYTHON, LAYER_ARCH, LAYER_MIRROR, LAYER_OPTIONS)
	@rm -rf build/layer && mkdir -p build
	@$(BUILD_LAYER) --zip $(LAYER_ZIP) build/layer

qemu: install ## fetch QEMU's user-mode emulation, by which a layer for the other processor is started here (LAYER_MIRROR)
	@$(BIN)/python -m layer.qemu $(if $(LAYER_MIRROR),--mirror '$(LAYER_MIRROR)')

# Uses the AWS CLI and its settings (profile, region). DRY_RUN=1 shows the call and makes none.
publish: ## publish that ZIP as a layer version and print its ARN (LAYER_ARCH, DRY_RUN=1, PUBLISH_OPTIONS)
	@test -f $(LAYER_ZIP) || $(MAKE) --no-print-directory layer
	@$(BIN)/python -m layer.publish $(if $(DRY_RUN),--dry-run) $(PUBLISH_OPTIONS) $(LAYER_ZIP)

# What `sam build` calls for the layer, with ARTIFACTS_DIR set. It runs in the checkout, not in a copy (template.yaml).
.PHONY: build-TelemetryForwarderLayer
build-TelemetryForwarderLayer: install
	@$(BUILD_LAYER) '$(ARTIFACTS_DIR)'

# What `sam build` calls for the replay function (replay/template.yaml).
.PHONY: build-ReplayFunction
build-ReplayFunction: install
	@$(BIN)/python -m layer.function --arch $(LAYER_ARCH) '$(ARTIFACTS_DIR)'

template: install $(SAM_STAMP) ## check the templates, and build those of SAM, without Docker and without an account
	@test -x $(BIN)/cfn-lint || { echo "make template needs Python 3.14 or older, as cfn-lint does" >&2; exit 1; }
	$(BIN)/cfn-lint template.yaml dashboards/*.yaml streams/*.yaml replay/template.yaml
	$(SAM) validate --lint
	$(SAM) validate --lint --template replay/template.yaml
	@echo "sam build: the layer is built anew for it, half a minute to a minute"
	$(SAM) build
	$(SAM) build --template replay/template.yaml --build-dir .aws-sam/replay

$(SAM_STAMP): $(SAM_LOCK)
	@$(PYTHON) -I layer/locked.py $(SAM_VENV) $(SAM_LOCK)
	@touch $@

otlp-schema: install ## write the table of OTLP's messages anew, from the published .proto files
	@mkdir -p build
	$(BIN)/python -m layer.otlp_schema > build/otlp_schema.py && mv build/otlp_schema.py telemetry_forwarder/otlp/schema.py

scale: install ## play ten thousand environments against one backend in virtual time, and draw docs/scale.md anew: minutes
	$(BIN)/python -m benchmarks.scale

promtool: install ## fetch Prometheus' promtool, which judges the queries of dashboards/grafana.json (LAYER_MIRROR)
	@$(BIN)/python -m tests.dashboards.prometheus $(if $(LAYER_MIRROR),--mirror '$(LAYER_MIRROR)')

foreign: install ## install receivers of OTLP and for OpenSearch that we did not write, where there are wheels
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --only-binary :all: -r $(FOREIGN_LOCK)

victorialogs: ## compile a store of logs that we did not write, for a test; needs Go
	mkdir -p build
	GOBIN='$(CURDIR)/build' GOFLAGS=-buildvcs=false go install github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.52.1

node-sdk: ## install OpenTelemetry's SDK for Node.js, for a test; needs npm
	mkdir -p build/node-sdk/nodejs
	cp tests/integration/node_sdk/package*.json build/node-sdk/nodejs
	npm ci --prefix build/node-sdk/nodejs --ignore-scripts --no-audit --no-fund --silent

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

lock: install ## pin the newest versions that pyproject.toml allows (needs uv), and those of Debian's archive
	$(COMPILE) --upgrade --extra local --extra dev pyproject.toml -o $(LOCK)
	$(COMPILE) --upgrade --constraints $(LOCK) pyproject.toml -o requirements-layer.lock
	printf '%b\n' "$(FOREIGN)" | $(COMPILE) --upgrade --no-deps - -o $(FOREIGN_LOCK)
	printf '%s\n' 'aws-sam-cli>=1.140' 'pip>=25.1' | $(COMPILE) --upgrade - -o $(SAM_LOCK)
	$(BIN)/python -m layer.debian

clean: ## remove what was built
	rm -rf $(VENV) .venv-sam build dist .aws-sam
