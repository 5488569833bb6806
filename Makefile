PYTHON := .venv/bin/python
BUF := .venv/bin/buf

.PHONY: help setup demo test check lint format types imports stubs stubs-check drawings protos lock pytest test-vllm clean
# The steps of `test` are to fail one at a time, in the order written.
.NOTPARALLEL:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: ## make .venv, or bring it up to date
	@sh scripts/setup.sh

demo: setup ## start everything on this machine with the demo model, and ask it something; ENGINE=vllm: on vLLM
ifeq ($(ENGINE),vllm)
	@sh scripts/setup_vllm.sh
	@$(PYTHON) -m deploy.local.demo --vllm .venv-vllm/bin/python
else
	@$(PYTHON) -m deploy.local.demo
endif

test: lint types imports stubs-check protos pytest ## all checks, stopping at the first that fails; 10 minutes on 2 idle cores

check: lint types imports stubs-check protos ## what to run before each commit, under a minute: no process is started
	@echo "==> quick tests (pytest)"
	@$(PYTHON) -m pytest -q -m "not slow"

lint: setup ## ruff: rules and format
	@echo "==> lint (ruff)"
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

format: setup ## rewrite the code as ruff wants it
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

types: setup ## mypy --strict
	@echo "==> types (mypy)"
	@$(PYTHON) -m mypy

imports: setup ## who may import whom
	@echo "==> imports (import-linter)"
	@.venv/bin/lint-imports --no-cache --no-logo

stubs: setup ## regenerate clients/python/internvl from protos
	@$(PYTHON) -m protos.generate

stubs-check: setup ## clients/python/internvl is what protos generate
	@echo "==> stubs"
	@$(PYTHON) -m protos.generate --check

drawings: setup ## redraw docs/architecture.md's pictures from the code
	@$(PYTHON) -m docs.drawings.draw

protos: setup ## buf lint
	@echo "==> protos (buf)"
	@$(BUF) lint protos

test-vllm: ## the engine over vLLM, in an environment of its own (.venv-vllm, 3.5 GB)
	@sh scripts/setup_vllm.sh
	@echo "==> tests of the engine over vLLM (pytest)"
	@.venv-vllm/bin/python -m pytest -o filterwarnings=default tests/vllm

pytest: setup ## the tests alone; some of them: make pytest ARGS="tests/gateway -k resume"
	@echo "==> tests (pytest)"
	@$(PYTHON) -m pytest $(ARGS)

lock: setup ## regenerate requirements.lock from pyproject.toml
	@sh scripts/lock.sh

clean: ## remove caches and built files; .venv stays
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*/*' -not -path './.uv/*' -prune -exec rm -rf {} +
