# Targets for people; what they do is in scripts/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build check test gpu-test demo bench cluster-up cluster-down clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  LIBTORCH=DIR       your own libtorch 2.13.0 in place of the one that setup installs'
	@echo '  ROCKET_CUDA=1      install libtorch with CUDA'
	@echo '  FRESH=1            make demo: train again although the same run exists'
	@echo "  BENCH='step'       make bench: only these"
	@echo '  CLUSTER_DIR=DIR    make cluster-up, cluster-down: its folder, if not .build/cluster'
	@echo '  CLUSTER_PORT=N     make cluster-up: the first of its five ports'

setup: ## fetch what the build needs (libtorch); once per user
	@scripts/setup.sh

build: setup ## build target/release/rocket and target/release/rocket-worker
	@cargo build --release --locked --workspace

check: ## formatting and lints
	@scripts/test.sh check

test: ## everything that must hold: lints, unit tests, whole-program tests
	@scripts/test.sh

gpu-test: ## what only a GPU can show; installs libtorch with CUDA (docs/gpu.md)
	@scripts/gpu-test.sh

demo: build ## train on real images with an interruption in the middle, and score (about 6 minutes)
	@scripts/demo.sh

bench: build ## measure against the same work done in Python
	@scripts/bench.sh $(BENCH)

cluster-up: ## start a Slurm of 4 nodes x 8 GPUs on this machine, to try things with (root)
	@scripts/cluster.sh up

cluster-down: ## end that Slurm with its jobs
	@scripts/cluster.sh down

clean: ## remove what was built here; data and runs stay
	@cargo clean --quiet
	@rm -rf .build/setup.stamp .build/*.log
