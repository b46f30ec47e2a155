#!/usr/bin/env bash
# Everything that must hold: format, lints, unit tests and whole-program tests. Prints what each part took,
# goes on after a failed part so that one run shows all that is wrong, and exits non-zero if any failed.
#
#   scripts/test.sh check   format and lints only
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
. scripts/lib.sh

parts=()
failed=0

# part NAME COMMAND...: runs it, timed.
part() {
    local name=$1 begin status seconds
    shift
    say "$name: $*"
    begin=$(date +%s.%N)
    "$@"
    status=$?
    seconds=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
    if [ "$status" = 0 ]; then
        parts+=("$(printf '%-14s %8s s  ok' "$name" "$seconds")")
    else
        parts+=("$(printf '%-14s %8s s  FAILED (exit %s)' "$name" "$seconds" "$status")")
        failed=$((failed + 1))
    fi
    printf 'part %s %s s\n' "$name" "$seconds"
    return "$status"
}

summary() {
    printf '\n%-14s %8s\n' part time
    printf '%s\n' "${parts[@]}"
    printf '%s passed, %s failed\n' "$((${#parts[@]} - failed))" "$failed"
    [ "$failed" = 0 ]
}

# Dependencies with their features, by the kinds of edges that count.
tree() {
    cargo tree --locked --workspace --prefix none --format '{p} {f}' --edges "$1" | sed 's/ (\*)$//' | sort -u
}

# What tests ask of a dependency beyond what the programs do would have all that uses it compiled twice.
features() {
    local build test differ
    build=$(tree normal,build) && test=$(tree normal,build,dev) || return
    differ=$(comm -23 <(printf '%s\n' "$build") <(printf '%s\n' "$test"))
    [ -z "$differ" ] && return
    printf 'error: tests ask other features of these than a build does; see tests/Cargo.toml:\n%s\n' "$differ" >&2
    return 1
}

part setup scripts/setup.sh || { summary; exit 1; }
part format cargo fmt --all --check
part features features
part clippy cargo clippy --release --locked --workspace --all-targets -- -D warnings
if [ "${1:-}" = check ]; then
    summary
    exit
fi
# Where Slurm cannot be had its tests are skipped, but not where everything must be shown.
if [ "${CI:-}" = true ]; then
    part slurm scripts/cluster.sh packages
else
    scripts/cluster.sh packages || say "the tests on a Slurm cluster will be skipped, for the reason above"
fi
# The real Python packages, to read what we write and to write what we read.
if [ "${CI:-}" = true ]; then
    part python scripts/python-tests.sh
    part eval-data scripts/eval-data.sh
else
    scripts/python-tests.sh && scripts/eval-data.sh ||
        say "the tests against Python's packages will be skipped, for the reason above"
fi
# The page of a report is tested in a real browser.
if [ "${CI:-}" = true ]; then
    part browser scripts/browser.sh
else
    scripts/browser.sh || say "the tests in a browser will be skipped, for the reason above"
fi
# Reads of images are counted by the kernel.
if [ "${CI:-}" = true ]; then
    part strace need strace strace 'counts the reads of images in a test'
fi
# The whole-program tests run the binaries of target/release, so these come first.
if part build cargo build --release --locked --workspace; then
    part unit cargo test --release --locked --workspace --exclude rocket-whole-program --no-fail-fast
    # Apart, for their time: a glob cannot leave the Slurm tests out.
    part whole-program cargo test --release --locked --workspace --no-fail-fast \
        --test whole_readme --test whole_exact_resume --test whole_faults --test whole_drill \
        --test whole_several_machines --test whole_children --test whole_trackers \
        --test whole_repro --test whole_reproduce --test whole_programs --test whole_eval
    part slurm-tests cargo test --release --locked --workspace --no-fail-fast --test 'whole_slurm_*'
fi
summary
