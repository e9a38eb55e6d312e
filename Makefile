# The commands one types daily. `make setup` once; then `make quick` while working, `make check` before a commit.
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup quick test check slow pages faults audit

setup:  ## Install into .venv, with the tools of a developer, at the tested versions.
	python3 -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'

quick:  ## Tests that train nothing and start no terminal: two minutes.
	$(BIN)/pytest -n 3 --dist loadfile --ignore tests/train --ignore tests/judging --ignore tests/screens --ignore tests/scripts

test:  ## The short tier: what README.md names and CI runs.
	$(BIN)/pytest -n 3 --dist loadfile

check:  ## Lint, format, types, import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow:  ## The second tier of tests, up to an hour; commit its tables with the commit they ran on.
	$(BIN)/pytest -m slow -n 2 --dist loadfile

pages:  ## Pages that are generated from the code.
	$(BIN)/python -m dpo_tui.config.docs_page > docs/config.md
	$(BIN)/python scripts/advice_page.py > docs/advice.md

faults:  ## The campaign of faults, an hour or two; goes on where it was, and writes its table.
	$(BIN)/python benchmarks/faults.py --out faults.jsonl --work .faults
	$(BIN)/python benchmarks/faults.py --out faults.jsonl --write-table benchmarks/results/faults.md

audit:  ## Known vulnerabilities of the tested versions; needs the network, and says so where there is none.
	@$(BIN)/pip install -q 'pip-audit>=2.7,<3' || { echo "pip-audit cannot be installed: this needs the network."; exit 2; }
	@$(BIN)/python scripts/audit_dependencies.py
