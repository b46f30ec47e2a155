#!/usr/bin/env bash
# A real Chromium, in which the page of `rocket report` is tested; installed only where there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

mkdir -p .build
for program in chromium chromium-browser google-chrome; do
    if command -v "$program" >/dev/null; then exit; fi
done
need chromium chromium 'shows the page of a report to the tests'
