# The one front door. `make help` lists the doors behind it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
SECONDS ?= 60
TRAITS := --traits Devices
MINUTES ?= 15
COUNT ?= 50
SEED ?=
SCENARIO ?= all
SEEDS ?= 100
FIRST ?= 1
JOBS ?= 2
PYTHON := .venv/bin/python

.PHONY: help demo test chaos power-cuts acceptance-edge simulate simulate-defects build release fmt check fuzz bench
.PHONY: bench-peers budgets deps deps-test clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

demo: deps-test build ## the main job from end to end, each step with what it observed
	scripts/demo.sh

test: deps-test $(PYTHON) ## every test; ends with the counts of passed, failed and skipped
	scripts/test.sh

chaos: deps-test build $(PYTHON) ## real daemons under random faults and load, then every check; MINUTES=15 SEED=x
	$(PYTHON) Tests/Chaos/chaos.py --seconds "$$(( $(MINUTES) * 60 ))" --seed "$(SEED)"

power-cuts: deps-test build $(PYTHON) ## power cuts: thousands in simulated disks, COUNT=50 in each real daemon; SEED=x
	scripts/power_cuts.sh "$(COUNT)" "$(or $(SEED),1)"

acceptance-edge: deps-test build $(PYTHON) ## what a node must bear, in full (15 minutes); SCENARIO="reboot --pods 20"
	$(PYTHON) Tests/Chaos/acceptance.py $(SCENARIO)

simulate: deps ## SEEDS=100 simulated clusters from seed FIRST=1 on, JOBS=2; SEED=x TRACE=1 replays; SCENARIO=hour-cut
ifeq ($(SCENARIO),all)
	scripts/simulate.sh seeds "$(SEEDS)" "$(FIRST)" "$(JOBS)" "$(SEED)" "$(TRACE)" "$(DEFECT)"
else
	scripts/simulate.sh scenario "$(SCENARIO)"
endif

simulate-defects: SEEDS := 200
simulate-defects: deps ## each planted defect until a seed finds it by the promise that it breaks, SEEDS=200 at most
	scripts/simulate.sh defects "$(SEEDS)" "$(FIRST)" "$(JOBS)"

build: deps ## every program, for debugging
	swift build $(TRAITS)

release: deps ## every program, optimised, with the Swift library linked statically
	scripts/release.sh

fmt: ## format all Swift sources
	swift format -i -p -r Sources Tests Package.swift

check: ## formatting and the house rules, without the other tests
	swift format lint --strict -p -r Sources Tests Package.swift
	swift test $(TRAITS) --disable-xctest --filter HouseTests

fuzz: deps ## libFuzzer over every decoder that an outsider's bytes reach; SECONDS=60 each
	scripts/fuzz.sh "$(SECONDS)"

bench: release ## every scenario of skerry-bench once: a table, BENCH_OUT/bench.json and BENCH_OUT/bench.html
	scripts/install-deps.sh test
	scripts/bench.sh all

bench-peers: release ## the same beside etcd, NATS and Mosquitto, with ratios
	scripts/install-deps.sh bench
	scripts/bench.sh peers

budgets: ## instructions and allocations of the hot paths against benchmarks/budgets
	scripts/budgets.sh

deps: ## install the Debian packages that building needs
	scripts/install-deps.sh build

deps-test: ## install the Debian packages that building, testing and the demo need
	scripts/install-deps.sh build test

$(PYTHON): Tests/requirements.txt scripts/venv.sh
	scripts/venv.sh

clean: ## remove everything that was built
	rm -rf .build .build-* .venv demo.json
