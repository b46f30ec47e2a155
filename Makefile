# Targets for people; what they do is in scripts/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build check test demo bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  LIBTORCH=DIR       your own libtorch 2.13.0 in place of the one that setup installs'
	@echo '  ROCKET_CUDA=1      install libtorch with CUDA'
	@echo '  FRESH=1            make demo: train again although the same run exists'
	@echo "  BENCH='step'       make bench: only these"

setup: ## fetch what the build needs (libtorch); once per user
	@scripts/setup.sh

build: setup ## build target/release/rocket and target/release/rocket-worker
	@cargo build --release --locked --workspace

check: ## formatting and lints
	@scripts/test.sh check

test: ## everything that must hold: lints, unit tests, whole-program tests
	@scripts/test.sh

demo: build ## train on real images with an interruption in the middle, and score (about 6 minutes)
	@scripts/demo.sh

bench: build ## measure against the same work done in Python
	@scripts/bench.sh $(BENCH)

clean: ## remove what was built here; data and runs stay
	@cargo clean --quiet
	@rm -rf .build/setup.stamp .build/*.log
