# shellcheck shell=bash
# Shared by the scripts of this folder; sourced, not run.

# Says what is being done.
say() { printf 'rocket: %s\n' "$*"; }

# Ends the script with a sentence.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The folder for what is downloaded once per user.
cache_dir() { printf '%s/rocket' "${XDG_CACHE_HOME:-$HOME/.cache}"; }

# Whether Debian packages can be installed here without asking anyone.
can_apt() { [ "$(id -u)" = 0 ] && [ -r /etc/debian_version ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: installs Debian packages; only where can_apt.
apt_install() {
    local log=.build/apt.log
    say "installing the Debian package(s) $* (log: $log)"
    {
        apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    } >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        fail "apt-get could not install $*. Its last lines are above; install them by hand and run this again."
    }
}

# need COMMAND DEBIAN_PACKAGE PURPOSE: a program that must be there, installed where that is possible.
need() {
    command -v "$1" >/dev/null && return
    if can_apt; then apt_install "$2"; fi
    command -v "$1" >/dev/null ||
        fail "'$1' is missing, which $3. Install it (Debian: apt-get install $2) and run this again."
}

# need_python: python3 with pip and venv.
need_python() {
    need python3 python3 'fetches libtorch and prepares data'
    if ! python3 -c 'import venv, ensurepip' 2>/dev/null || ! python3 -m pip --version >/dev/null 2>&1; then
        if can_apt; then apt_install python3-venv python3-pip; fi
    fi
    python3 -c 'import venv, ensurepip' 2>/dev/null ||
        fail "python3 lacks its 'venv' module, in which packages are installed. Install it (Debian: apt-get install python3-venv) and run this again."
    python3 -m pip --version >/dev/null 2>&1 ||
        fail "python3 lacks pip, which fetches libtorch. Install it (Debian: apt-get install python3-pip) and run this again."
}

# stamped FILE CONTENT: whether FILE says that the work described by CONTENT was done.
stamped() { [ -r "$1" ] && [ "$(cat "$1")" = "$2" ]; }

# python_env FOLDER REQUIREMENTS: a virtual environment that holds exactly the pinned requirements.
python_env() {
    local folder=$1 requirements=$2 want log=.build/pip.log fresh
    want="$folder $(sha256sum <"$requirements") $(python3 --version)"
    if stamped "$folder/.stamp" "$want" && [ -x "$folder/bin/python" ]; then return; fi
    say "installing the Python packages of $requirements into $folder (log: $log)"
    rm -rf "$folder"
    # Built in place: a virtual environment cannot be moved. The stamp, written last, says it is whole.
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
        --requirement "$requirements" >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        fail "pip could not install $requirements. Its last lines are above; check the network and run this again."
    }
    fresh=$folder/.stamp
    printf '%s' "$want" >"$fresh"
}
