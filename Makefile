# `make help` lists what there is. Those that matter: `make demo`, `make unit` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo unit test durations acceptance check bench format lock schema examples clean-demo engine

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

engine: ## Install and start a Docker engine where none answers, mmdebstrap, and what the agreement's PDF needs
	@.ci/engine
	@.ci/document-tools

.venv/runtime: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: .venv/runtime requirements-dev.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

demo: engine .venv/runtime ## Two associations with a WordPress site over HTTPS, from a bare machine
	@$(BIN)/provision init
	@$(BIN)/provision create --from conventions/associations/kayane.yaml
	@$(BIN)/provision create --from conventions/associations/regart.yaml
	@$(BIN)/provision doctor
	@echo
	@echo "Open in a browser on this machine (trust state/authority/root.pem first, or accept its warning):"
	@echo "    https://kayane.assos.localhost:8443"
	@echo "    https://regart.assos.localhost:8443"
	@echo "To trust the root:   Firefox, Chromium: settings, certificates, authorities, import state/authority/root.pem"
	@echo "                     curl --cacert state/authority/root.pem https://kayane.assos.localhost:8443"
	@echo "To administer one:   open a mail in state/mail/ and follow its link"
	@echo "To go on:            .venv/bin/provision status      and docs/operator.md"

unit: .venv/dev ## What needs neither root nor an engine, in a minute or so
	@.ci/document-tools
	$(BIN)/pytest tests/unit tests/records -n 2 --dist worksteal

test: engine .venv/dev ## The whole suite: real engine, MariaDB, nginx, SMTP server, sshd, browser
	@.ci/test-tools
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

durations: engine .venv/dev ## The whole suite, and how long each file takes: the order in which `make test` begins them
	@.ci/test-tools
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --record-durations

acceptance: engine .venv/dev ## What takes longer than CI should: every failpoint of every step, all releases
	@.ci/test-tools
	$(BIN)/pytest -m acceptance --timeout 3600

check: .venv/dev ## Format, lint, types, layers; shell scripts and PHP
	@.ci/check-tools
	.ci/check-scripts
	$(BIN)/ruff format --check provisioner templates tests
	$(BIN)/ruff check provisioner templates tests
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: engine .venv/dev ## Measure creating, backups, restores, upgrades and agreements against their baselines; print the tables of docs/bench.md
	$(BIN)/python -m tests.bench.bench
	$(BIN)/python -m tests.bench.backups
	$(BIN)/python -m tests.bench.upgrades
	$(BIN)/python -m tests.bench.agreements

format: .venv/dev ## Format and sort
	$(BIN)/ruff format provisioner templates tests
	$(BIN)/ruff check --fix provisioner templates tests

lock: ## Renew the lock files (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group runtime --output-file requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group runtime --group dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml

schema: .venv/runtime ## Write docs/inventory.schema.json and docs/inventory.md from the inventory's types
	$(BIN)/python docs/inventory-reference.py

examples: .venv/runtime ## Make docs/agreements/*.pdf anew, after a change of the agreement's template
	$(BIN)/python docs/agreement-examples.py

clean-demo: ## Remove the demonstration: its containers, data and state
	-docker ps -aq --filter label=provision.namespace=demo | xargs -r docker rm -fv
	rm -rf state
	-rm -rf /srv/provision-demo
