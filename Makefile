# `make run` and `make test` each set up all they need, in .venv; sh and Python >= 3.12 is what they ask for.
# Another interpreter than the one that is found:  make PYTHON=/path/to/python3.13 run
# Further arguments for the command behind a target:  make test ARGS="tests/oci -q"

SHELL = /bin/sh
PYTHON =
ARGS =
BIN = .venv/bin

.DEFAULT_GOAL = help
.PHONY: help setup run test check e2e bench clean

help:
	@echo 'make run    start the proxy on port 3128 (CA in ca/, cache in .data/), in the foreground'
	@echo 'make test   the whole test suite'
	@echo 'make check  linters, types, import rules, shell scripts, YAML, links in the documentation'
	@echo 'make e2e    only the tests with real container clients (root, Debian)'
	@echo 'make bench  how fast it is'
	@echo 'make setup  only .venv with everything in it'
	@echo 'make clean  remove .venv and what tools left; keeps .data/ and the CA'
	@echo 'ARGS="..." goes to the command behind a target, PYTHON=... chooses the interpreter.'

# Quick when there is nothing to do; the stamp is compared in the script, as make's own
# comparison of file times is misled by clones and cannot see another interpreter.
setup:
	@PYTHON='$(PYTHON)' scripts/venv.sh

# From the environment, a directory of one's own for the CA wins over the checkout's.
run: setup
	@ENTREPOT_CA__DIRECTORY="$${ENTREPOT_CA__DIRECTORY:-ca}" exec $(BIN)/entrepot serve \
		--config config/entrepot.yaml --data .data $(ARGS)

test: setup
	@$(BIN)/pytest $(ARGS)

check: setup
	@scripts/check.sh $(ARGS)

e2e: setup
	@$(BIN)/pytest -m e2e $(ARGS)

bench: setup
	@$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . \( -path ./.git -o -path ./.data \) -prune -o -name __pycache__ -prune -exec rm -rf {} +
