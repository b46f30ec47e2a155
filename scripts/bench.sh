#!/usr/bin/env bash
# Measures this program against the same work done in Python, in turn, with equal cores.
#   scripts/bench.sh [NAME...]   only these; all if none is named
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

need_python
# The inputs of the others are the demo's data.
[ "$*" = submit ] || scripts/demo.sh prepare
# Synonyms of captions, for the loader's benchmarks; without them both sides go on without.
if can_apt && ! [ -e /usr/share/wordnet/index.noun ]; then apt_install wordnet-base; fi
# A few GB once: the Python torch does not load without its CUDA libraries, although none is used here.
python_env .build/bench/venv bench/requirements.txt
exec .build/bench/venv/bin/python bench/run.py "$@"
