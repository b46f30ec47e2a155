#!/usr/bin/env bash
# Python's own torch, timm, safetensors and open_clip, with which tests compare checkpoints, and tensorboard, wandb
# and mlflow, with which they read what trackers write. About 3.5 GB once per
# user (${XDG_CACHE_HOME:-~/.cache}/rocket), found by the tests as .build/python-tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

readonly lists=(
    worker/tests/python/torch.txt worker/tests/python/requirements.txt worker/tests/python/trackers.txt
)

need_python
mkdir -p .build
want="$(cat "${lists[@]}" | sha256sum | cut -c 1-12) $(python3 --version)"
env=$(cache_dir)/python-tests-${want%% *}
if ! stamped "$env/.stamp" "$want" || ! [ -x "$env/bin/python" ]; then
    say "installing Python's torch, open_clip, tensorboard, wandb and mlflow for the tests into $env (log: .build/pip.log)"
    rm -rf "$env"
    # Built in place: a virtual environment cannot be moved. The stamp, written last, says it is whole.
    python3 -m venv "$env"
    for list in "${lists[@]}"; do
        "$env/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
            --no-deps --requirement "$list" >.build/pip.log 2>&1 || {
            tail -n 5 .build/pip.log >&2
            fail "pip could not install $list. Its last lines are above; check the network and run this again."
        }
    done
    {
        "$env/bin/python" -W error::ImportWarning -c 'import torch, timm, safetensors, open_clip' &&
            "$env/bin/python" -c 'import mlflow, tensorboard, wandb'
    } >.build/pip.log 2>&1 || {
        tail -n 5 .build/pip.log >&2
        fail "the packages of ${lists[*]} were installed, but do not load. The last lines are above."
    }
    printf '%s' "$want" >"$env/.stamp"
fi
ln -sfn "$env" .build/python-tests
