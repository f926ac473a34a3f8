# make serve   install into .venv, export the demo model if need be, serve it on 127.0.0.1:3000
# make test    install what the tests need and run all of them
# make nightly run the tests of reliability in their full form and put the figures into docs/reliability.md
# make node    install the JavaScript clients that tests use
# make audit   ask a public database for known holes in what constraints.txt pins
# make lint    formatting, lint and types only
# make clean   remove .venv and caches; exported models stay
#
# PYTHON=python3.12       the interpreter to make .venv with (3.11 or newer)
# TORCH_INDEX=<index>     PyTorch's CPU wheel index, as its install page names it; without it Linux gets CUDA libraries
# ARGS='--threads 2'      more flags for infrs-serve; INFRS_ variables work as well
# PYTEST_ARGS='-k stop'   more flags for pytest
# PARTS=serial            the parts of make nightly to run again (parallel, serial); without it both run

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=
PYTEST_ARGS ?=
PARTS ?=
BIN := .venv/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --prefer-binary \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --constraint constraints.txt

NODE := tests/node/node_modules/.done

.PHONY: serve test nightly node lint audit clean

serve: .venv/.serve
	$(BIN)/infrs-serve --demo $(ARGS)

test: .venv/.test $(NODE)
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup $(PYTEST_ARGS)

nightly: .venv/.test
	$(BIN)/python tests/reliability/nightly.py $(PARTS)

node: $(NODE)

lint: .venv/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit:
	$(PYTHON) -m venv build/audit && build/audit/bin/python -m pip install --quiet pip-audit
	build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/node/node_modules

# Stamps: pip runs again only when the dependencies or the kernels may have changed.
NATIVE := $(wildcard infrs/native/*.cpp infrs/native/*.h)
.venv/.serve: pyproject.toml constraints.txt $(NATIVE) | .venv
	@echo "Installing infrs with its exporter into .venv (once; a few minutes)"
	$(PIP_INSTALL) --editable '.[export,demo]'
	@touch $@

.venv/.test: pyproject.toml constraints.txt $(NATIVE) | .venv
	@echo "Installing infrs with its exporter and test tools into .venv (once; a few minutes)"
	$(PIP_INSTALL) --editable '.[export,demo,bench,otel,dev]'
	@touch $@ .venv/.serve

$(NODE): tests/node/package.json
	@command -v npm >/dev/null || { echo "the tests of JavaScript clients need Node 20 or newer with npm"; exit 1; }
	npm install --prefix tests/node --no-package-lock --no-audit --no-fund
	@touch $@

.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "infrs needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
