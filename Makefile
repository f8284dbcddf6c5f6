# Everything that a fresh machine needs is set up by the targets themselves: Python ≥ 3.11, make and a package index.
PYTHON ?= python3
# A checkout that cannot be written keeps its environment and state in the user's cache folder.
HOME_OF_STATE := $(shell if test -w .; then echo .; else echo "$${XDG_CACHE_HOME:-$$HOME/.cache}/entrepot"; fi)
VENV ?= $(HOME_OF_STATE)/.venv
STATE ?= $(HOME_OF_STATE)/.entrepot
BIN := $(VENV)/bin
# A process that hangs and is ended ends the run: the runner does not get on with a new one.
SPREAD := --dist loadscope --no-loadscope-reorder --max-worker-restart=0
export PYTHONDONTWRITEBYTECODE := $(if $(filter .,$(HOME_OF_STATE)),,1)

.PHONY: help demo dev test test-fast test-live test-bounds docs check format lock benchmark clean

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: $(VENV)/.demo ## Run the flights pipeline end to end: raw files to a dashboard
	@$(BIN)/entrepot demo --state "$(STATE)"

dev: $(VENV)/.demo ## Temporal server, Web UI and worker in one, until Ctrl-C
	@$(BIN)/entrepot dev --state "$(STATE)"

test: check $(VENV)/.dev ## Everything: style, types, layers, and all tests
	$(BIN)/python -m pytest -n 5 $(SPREAD) $(TESTS)

test-fast: $(VENV)/.dev ## For the daily loop: units, histories, conformance on DuckDB, one whole run of each kind
	ENTREPOT_BACKEND=duckdb $(BIN)/python -m pytest -n 2 $(SPREAD) -m fast $(TESTS)

test-live: $(VENV)/.dev ## The conformance suite against a real account: make test-live BACKEND=snowflake
	@test -n "$(BACKEND)" || { echo "name a backend: make test-live BACKEND=snowflake"; exit 2; }
	ENTREPOT_LIVE=1 ENTREPOT_BACKEND=$(BACKEND) $(BIN)/python -m pytest tests/conformance

test-bounds: $(addprefix test-bounds-,lowest-direct highest) ## The fast suite on the lowest and newest allowed versions

test-bounds-%: $(VENV)/.uv
	$(BIN)/uv venv -q --clear --python $(BIN)/python "$(VENV)-$*"
	$(BIN)/uv pip compile -q --resolution $* --all-extras pyproject.toml -o "$(VENV)-$*/requirements.txt"
	$(BIN)/uv pip install -q --python "$(VENV)-$*/bin/python" --group dev \
	  -r "$(VENV)-$*/requirements.txt" -r requirements/uv.txt
	$(BIN)/uv pip install -q --python "$(VENV)-$*/bin/python" --no-deps -e . -e tests/standins
	@grep -E "^(databricks-sql-connector|dlt|duckdb|google-cloud-bigquery|ibis-framework|scikit-learn|snowflake-connector-python|temporalio)(\[.*\])?==" "$(VENV)-$*/requirements.txt"
	ENTREPOT_BACKEND=duckdb "$(VENV)-$*/bin/python" -m pytest -n 2 $(SPREAD) -m fast $(TESTS)

docs: $(VENV)-docs/.docs ## Build the documentation site into site/, and check its links
	NO_MKDOCS_2_WARNING=1 "$(VENV)-docs/bin/mkdocs" build --strict

check: $(VENV)/.dev ## Style, strict types, one-way imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Write the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.uv ## Pin every dependency anew, with hashes
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --all-extras --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --extra server --extra examples -c requirements/dev.txt \
	  pyproject.toml -o requirements/demo.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --group docs -o requirements/docs.txt

benchmark: $(VENV)/.dev ## Print every table of ratios against peers (installs the peers; takes a while)
	$(BIN)/python -m benchmarks

clean: ## Remove the environment and all state
	rm -rf "$(VENV)" "$(VENV)"-* "$(STATE)" site

$(VENV)/.uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit("Entrepot needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv "$(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.demo: $(VENV)/.uv requirements/demo.txt pyproject.toml
	@echo "Setting up $(VENV) ..."
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/demo.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e . -e tests/standins
	@touch $@

$(VENV)/.dev: $(VENV)/.uv requirements/dev.txt pyproject.toml
	@echo "Setting up $(VENV) ..."
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e . -e tests/standins
	@touch $@ $(VENV)/.demo

$(VENV)-docs/.docs: $(VENV)/.uv requirements/docs.txt
	@echo "Setting up $(VENV)-docs ..."
	@$(BIN)/uv venv -q --clear --python $(BIN)/python "$(VENV)-docs"
	@$(BIN)/uv pip install -q --python "$(VENV)-docs/bin/python" --require-hashes -r requirements/docs.txt
	@touch $@
