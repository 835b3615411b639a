# `make` alone prints what there is. Everything installs what is missing first (scripts/bootstrap.sh).
.DEFAULT_GOAL := help
.PHONY: help bootstrap kubernetes build demo test lint bench fuzz cluster-up cluster-down conformance clean

CARGO ?= cargo
XTASK = $(CARGO) run --profile checked --package xtask --
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)

help:
	@echo 'make demo       three nodes on this machine: a shop, its policies, a killed agent (root; a minute)'
	@echo 'make test       every check and every suite, privileged ones included, and a summary (root)'
	@echo 'make build      the binary: $(TARGET_DIR)/release/tortie'
	@echo 'make lint       formatting, clippy, docs, who may use whom, licences'
	@echo 'make bench      packet costs beside their targets (root)'
	@echo 'make fuzz       every fuzz target for a minute; FUZZ_SECONDS=N for longer'
	@echo 'make cluster-up a real Kubernetes with Tortie on this machine (root); IPFAMILY=dual NODES=3; make cluster-down'
	@echo 'make conformance upstream e2e.test on such a cluster (root); FOCUS=… SKIP=… IPFAMILY=ipv4|dual NODES=3 PROCS=6'
	@echo 'make bootstrap  only install what is missing'
	@echo 'make kubernetes API server, controller manager, kubectl and etcd, built from their Go modules if missing'
	@echo 'make clean      remove what was built here; tools in ~/.cache/tortie stay'

bootstrap:
	@scripts/bootstrap.sh

kubernetes:
	@scripts/kubernetes.sh

build: bootstrap
	$(CARGO) build --release --package tortie

demo: build
	$(TARGET_DIR)/release/tortie lab demo

test:
	@scripts/bootstrap.sh --lint
	@$(XTASK) test

lint:
	@scripts/bootstrap.sh --lint
	@$(XTASK) lint

bench: build
	$(TARGET_DIR)/release/tortie bench packet

fuzz: bootstrap
	@$(XTASK) fuzz --seconds $(or $(FUZZ_SECONDS),60)

cluster-up: build
	@TORTIE_BIN=$(abspath $(TARGET_DIR)/release/tortie) tests/kubernetes/cluster/up.sh

cluster-down:
	@tests/kubernetes/cluster/down.sh

conformance: build
	@TORTIE_BIN=$(abspath $(TARGET_DIR)/release/tortie) tests/kubernetes/cluster/conformance.sh

clean:
	$(CARGO) clean
