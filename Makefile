# Everything runs in .venv, which every target makes or renews first.
# PYTHON=python3.13 chooses the interpreter (3.11 to 3.13).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv postgresql demo demo-tape test lint proto schema notes simulate simulate-forever simulate-speed mutations \
	bench bench-quick hostile fuzz scale soak lock clean

export PYTHON
PY := .venv/bin/python
PROTOS := proto/lrs.proto proto/tlc.proto
PROTOC = $(PY) -m grpc_tools.protoc -I proto $(PROTOS)
# What ruff does not know: yields inside nurseries and cancel scopes, awaits in `finally` and `except` without a
# shield that has a deadline, and tasks that are started but not waited for.
ASYNC_RULES := ASYNC101,ASYNC102,ASYNC113,ASYNC119,ASYNC120
# More arguments for pytest: make test PYTEST_ARGS='tests/dss -x'
PYTEST_ARGS ?=

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

venv: ## make .venv, with lrs and lrsd in its bin
	@requirements/venv.sh

# Of tests and benchmarks: each starts its own.
postgresql:
	@requirements/postgresql.sh

demo: venv ## the main job on temporary directories: a daemon, a crowd of clients, a summary
	@.venv/bin/lrs demo

demo-tape: venv ## the same on a virtual tape library, and a picture of what its drives did (a minute)
	@.venv/bin/lrs demo --tape

test: venv postgresql ## all tests (under 10 minutes)
	@$(PY) -m pytest -q -n 2 $(PYTEST_ARGS)

lint: venv ## style, types, floors, and generated code being current
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/flake8-async --enable=$(ASYNC_RULES) $$(find src -name '*.py' ! -name '*_pb2.py')
	.venv/bin/mypy
	.venv/bin/lint-imports
	@echo "generated code is that of $(PROTOS)"
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(PROTOC) --python_out="$$fresh" --pyi_out="$$fresh"; \
	for file in "$$fresh"/*; do \
		diff -u "src/lrs_trio/wire/$${file##*/}" "$$file" || { echo "run: make proto" >&2; exit 1; }; \
	done

proto: venv ## generate the protobuf code anew
	$(PROTOC) --python_out=src/lrs_trio/wire --pyi_out=src/lrs_trio/wire

schema: venv postgresql ## describe anew the PostgreSQL schema, for lrs dss check
	@$(PY) -m tests.dss.postgres.write_description

notes: venv ## design-note item -> tests; fails when an item has none
	@$(PY) -m tests.note_coverage

simulate: venv ## the suite of the simulation: seeds, faults, the daemon killed at every step (under 15 minutes)
	@.venv/bin/lrs simulate --suite

simulate-forever: venv ## one seed after the other until one fails, and the line that shows it again
	@.venv/bin/lrs simulate --forever

simulate-speed: venv ## how fast the simulation is, with 4, 64 and 512 drives
	@.venv/bin/lrs simulate --speed

mutations: venv ## whether the simulation finds mistakes that are planted in a copy of the program (an hour at most)
	@$(PY) -m tests.simulation.mutations

bench: venv postgresql ## cycles per second on both kinds of DSS, beside what is possible here (15 minutes)
	@$(PY) -m benchmarks

bench-quick: venv postgresql ## something of that, only to be looked at (under 90 seconds)
	@$(PY) -m benchmarks --quick

scale: venv ## 1,000 devices, 20,000 media, 100,000 requests that wait, 10,000 connections, and how costs grow (10 minutes)
	@$(PY) -m benchmarks.scale

hostile: venv ## hostile and unlucky clients beside an honest one: what it has to wait for (6 minutes)
	@$(PY) -m benchmarks.hostile

fuzz: venv ## ten million frames of every kind on a daemon's socket, beside an honest client (one to three hours)
	@$(PY) -m benchmarks.hostile.fuzz --frames 10000000 --minutes 300

soak: venv postgresql ## long runs under load: the daemon killed fifty times, PostgreSQL restarted every second
	@$(PY) -m benchmarks.soak
	@$(PY) -m benchmarks.soak --dss postgres
	@$(PY) -m benchmarks.restarts
	@$(PY) -m benchmarks.restarts --vary

lock: venv ## pin the newest fitting requirements, for all supported Pythons, by hash
	.venv/bin/uv pip compile pyproject.toml --extra dev --extra postgres --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-header --quiet --output-file requirements/lock.txt

clean: ## remove .venv and everything else that is not source
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build src/*.egg-info \
		lrs-demo-tape.html
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
