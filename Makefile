# make serve       install into .venv, export the demo model if needed, serve it on 127.0.0.1:3000
# make serve-fake  serve the tests' fake model on 127.0.0.1:3000: every route, no weights; for developers of clients
# make test        install what the tests need and run them, except those of the web page in a browser
# make test-web    the tests of the web page in Chromium; install it if it is missing and this is Debian as root
# make test-all    both in one run, as CI does
# make quick       format, lint, types and the unit tests of api, engine and text
# make check       all static checks: format, lint, types, layers, documents
# make fmt         format the code and sort the imports
# make kernels     compile the C++ files that have changed, and link the library
# make nightly     run the reliability tests in their full form and write the figures to docs/reliability.md
# make node        install the JavaScript clients that tests use
# make audit       look for known vulnerabilities in the versions of constraints.txt
# make clean       remove .venv, builds and caches; exported models stay
# make help        print this text
#
# PYTHON=python3.12       the interpreter to create .venv with (3.11 or newer)
# TORCH_INDEX=<index>     PyTorch's CPU wheel index, as its install page names it; without it Linux gets CUDA libraries
# ARGS='--threads 2'      more flags for infrs-serve; INFRS_ variables work as well
# FAKE='{"interval": 1}'  options of the fake model in JSON, which tests/http/fake_server.py lists
# PYTEST_ARGS='-k stop'   more flags for pytest
# PARTS=serial            the parts of make nightly to repeat (parallel, serial); without it both run

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=
FAKE ?= {"server": {"port": 3000}, "rows": 8, "max_queue": 64, "interval": 0.02}
PYTEST_ARGS ?=
PARTS ?=
BIN := .venv/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --prefer-binary \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest

NODE := tests/node/node_modules/.done
CLIENTS := build/clients/.done
# Fast tests, without processes and models. The files left out import transformers or read the demo model.
UNIT_TESTS := tests/api tests/text tests/test_layers.py tests/test_docs.py tests/test_config.py \
	$(patsubst %,tests/engine/test_%.py,invariants scheduler sequence slab slots) \
	$(patsubst %,--ignore=tests/text/test_%.py,chat_template detokenizer quoting real_templates tokenizer \
	tools_conversation tools_grammar tools_not_json_grammar)

.PHONY: serve serve-fake test test-web test-all quick check fmt kernels nightly node chromium audit clean help

serve: .venv/.serve kernels
	$(BIN)/infrs-serve --demo $(ARGS)

serve-fake: .venv/.test
	$(BIN)/python tests/http/fake_server.py '$(FAKE)'

test: .venv/.test kernels $(NODE)
	$(PYTEST) --numprocesses auto --dist worksteal --ignore tests/browser $(PYTEST_ARGS)

test-web: .venv/.test kernels $(NODE) chromium
	$(PYTEST) $(PYTEST_ARGS) tests/browser

test-all: .venv/.test kernels $(NODE) chromium
	$(PYTEST) --numprocesses auto --dist worksteal $(PYTEST_ARGS)

quick: .venv/.test kernels
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(PYTEST) --quiet --numprocesses auto --dist worksteal -m "not slow" -k "not demo" $(PYTEST_ARGS) $(UNIT_TESTS)

check: .venv/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) --quiet -m "not slow" tests/test_layers.py tests/test_docs.py tests/test_style.py

fmt: .venv/.test
	$(BIN)/ruff check --quiet --select I --fix .
	$(BIN)/ruff format .

nightly: .venv/.test kernels $(CLIENTS)
	$(BIN)/python tests/reliability/nightly.py $(PARTS)

node: $(NODE)

audit:
	$(PYTHON) -m venv build/audit && build/audit/bin/python -m pip install --quiet pip-audit
	build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/node/node_modules

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

# Stamps: pip runs again only when the dependencies may have changed.
.venv/.serve: pyproject.toml constraints.txt | .venv
	@echo "Installing infrs with its exporter into .venv (once; a few minutes)"
	$(PIP_INSTALL) --editable '.[export,demo]'
	@touch $@

.venv/.test: pyproject.toml constraints.txt | .venv
	@echo "Installing infrs with its exporter and test tools into .venv (once; a few minutes)"
	$(PIP_INSTALL) --editable '.[export,demo,bench,otel,dev]'
	@touch $@ .venv/.serve

# Node and npm come with the `dev` extra. npm's scripts look for `node` on the path.
$(NODE): tests/node/package.json | .venv/.test
	PATH="$(CURDIR)/$(BIN):$$PATH" npm install --prefix tests/node --no-package-lock --no-audit --no-fund
	@touch $@

# The tests look for Chromium themselves, and fail with the remedy where there is none.
CHROMIUMS := chromium chromium-browser google-chrome-stable google-chrome
chromium:
	@[ -z "$$CHROMIUM" ] || exit 0; for name in $(CHROMIUMS); do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the tests of the web page"; \
		timeout 600 sh -c 'apt-get -q update && apt-get -q install --yes --no-install-recommends chromium' >/dev/null \
			|| echo "Chromium could not be installed"; \
	fi

# Client libraries that need other versions than the tests. Only `make nightly` runs them.
$(CLIENTS): tests/clients/requirements.txt | .venv/.test
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "infrs needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv

# pip compiles the whole library when it installs infrs. After that these rules compile what has changed, with the same
# flags. Object files are secondary: make needs none of them while the library is newer than the sources.
KERNELS := infrs/native/kernels.abi3.so
SOURCES := $(sort $(wildcard infrs/native/*.cpp infrs/native/*/*.cpp))
HEADERS := $(wildcard infrs/native/*/*.h)
OBJECTS := $(SOURCES:infrs/native/%.cpp=build/native/%.o)
.SECONDARY: $(OBJECTS)
CXX_FLAGS = $(shell $(BIN)/python -c 'import sysconfig, tomllib; \
	[kernels] = tomllib.load(open("pyproject.toml", "rb"))["tool"]["setuptools"]["ext-modules"]; \
	print(*map(sysconfig.get_config_var, ("CFLAGS", "CCSHARED")), *kernels["extra-compile-args"])')

kernels: .venv/.serve
	@if command -v $(CXX) >/dev/null; then $(MAKE) --no-print-directory --jobs=4 $(KERNELS); \
	else echo "There is no C++ compiler ($(CXX)): ONNX Runtime's kernels run"; fi

$(KERNELS): $(OBJECTS)
	$(CXX) -shared $^ -o $@

build/native/%.o: infrs/native/%.cpp $(HEADERS) pyproject.toml
	@mkdir -p $(@D)
	$(CXX) $(CXX_FLAGS) -c $< -o $@
