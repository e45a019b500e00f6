# Each target installs what it needs first (scripts/setup), so a fresh Debian 12 machine with
# rustup's Rust and git needs nothing else.
.DEFAULT_GOAL := help
.PHONY: help build test lint demo bench

help: ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

build: ## the release binary, target/release/pintle
	@scripts/setup build
	cargo build --release --locked

demo: ## a cluster of three nodes, a Deployment and a Service over eBPF (KEEP=1 leaves it up)
	@scripts/demo $(if $(filter 1,$(KEEP)),--keep)

test: ## formatting, clippy and every test; as root also those that need the kernel
	@scripts/test

lint: ## formatting and clippy alone
	@scripts/setup build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

bench: build ## the short set of benches, with LARGE=1 also a million pods; results go to bench/results/
	@scripts/setup bench
	target/release/pintle bench all --out bench/results $(if $(filter 1,$(LARGE)),--large)
