#!/usr/bin/env bash
# Fuzzes the readers of files that others wrote, each for so many seconds (600 if not said).
#
#   scripts/fuzz.sh [SECONDS [READER...]]
#
# Readers are the tests of worker/tests/fuzz/main.rs: npy, pickle, jpeg ... What is not survived is kept in
# target/tmp/fuzz and named; give it to worker/tests/fuzz/found/READER/ when it is mended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-600}
shift || true
# Other numbers than last time, unless they are asked for.
seed=${ROCKET_FUZZ_SEED:-$(date +%s)}
echo "seed $seed"
ROCKET_FUZZ_SECONDS=$seconds ROCKET_FUZZ_SEED=$seed \
    cargo test --release --locked --workspace --test fuzz -- --nocapture --exact "$@"
