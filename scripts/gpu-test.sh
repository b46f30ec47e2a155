#!/usr/bin/env bash
# Runs what only a GPU can show, on this machine's first one or two. Without a GPU it ends with one sentence
# and exit code 1. See docs/gpu.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

command -v nvidia-smi >/dev/null ||
    fail "there is no GPU here to test on: 'nvidia-smi' is missing. Run this where an NVIDIA driver is installed."
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU') ||
    fail "there is no GPU here to test on: nvidia-smi lists none. Check the driver and the job's GPU request."
say "testing on $gpus GPU(s):"
nvidia-smi --query-gpu=index,name,compute_cap,driver_version,memory.total --format=csv,noheader

ROCKET_CUDA=1 scripts/setup.sh
# Torch reads this when it first uses cuBLAS, which may be before the test that asks for equal bits.
export CUBLAS_WORKSPACE_CONFIG=:4096:8
# One at a time: they share the GPU's memory, and torch's switches are the process's. Every test file that is
# named gpu_* belongs here.
cargo test --release --locked --workspace --no-fail-fast --test 'gpu_*' -- \
    --ignored --nocapture --test-threads=1
