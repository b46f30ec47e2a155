#!/usr/bin/env bash
# Makes this checkout ready to build: tools, and the libtorch that tch is built against.
#
#   LIBTORCH=DIR   use this libtorch (checked to be of the right version)
#   ROCKET_CUDA=1  install libtorch with its CUDA libraries (several GB) instead of the CPU part
#
# What is downloaded goes to a folder of the user's (${XDG_CACHE_HOME:-~/.cache}/rocket) and serves every
# checkout; .build/libtorch points to it. A second run finds everything in place and does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

readonly torch_version=2.13.0
# With --no-deps, these two are all that libtorch_cpu.so asks for at link time.
readonly cpu_wheels=("torch==$torch_version" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
# Headers alone are kept of these: what the bridge to NCCL is compiled against, with a GPU or without.
readonly header_wheels=(nvidia-nccl-cu13==2.29.7 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85)
readonly gpu_only=(libtorch_cuda.so libtorch_cuda_linalg.so libc10_cuda.so libtorch_nvshmem.so
    libtorch_python.so libcaffe2_nvrtc.so)
readonly oldest_rust=1.90

# Version of the libtorch in DIR, without the local part (+cpu, +cu130); empty if there is none.
version_of() {
    local dir=$1 header
    if [ -r "$dir/build-version" ]; then
        sed 's/+.*//' "$dir/build-version"
    elif [ -r "$dir/version.py" ]; then
        sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$dir/version.py"
    else
        for header in "$dir/include/torch/headeronly/version.h" \
            "$dir/include/torch/csrc/api/include/torch/version.h"; do
            [ -r "$header" ] || continue
            awk '/^#define TORCH_VERSION_(MAJOR|MINOR|PATCH)/ { v = v s $3; s = "." } END { print v }' "$header"
            return
        done
    fi
}

# libjpeg's own assembly, which decodes the same pixels in half the time, is compiled if nasm is there.
want_nasm() {
    command -v nasm >/dev/null && return
    if can_apt; then apt_install nasm; fi
    command -v nasm >/dev/null ||
        say "'nasm' is missing: JPEGs will take twice as long to decode. Install it (Debian: apt-get install nasm), run this again and build."
}

# check_libtorch DIR NAME: whole and of the right version, or a sentence.
check_libtorch() {
    local dir=$1 name=$2 found
    local remedy="Point LIBTORCH at the folder of a libtorch $torch_version (it holds lib/ and include/), or unset it and 'make setup' installs one."
    [ -d "$dir" ] || fail "$name is not a folder. $remedy"
    found=$(version_of "$dir")
    [ -n "$found" ] || fail "$name holds no libtorch: neither build-version, version.py nor include/torch is there. $remedy"
    [ "$found" = "$torch_version" ] ||
        fail "$name holds libtorch $found, but rocket is built against $torch_version, and another version does not compile or crashes. $remedy"
    [ -e "$dir/lib/libtorch_cpu.so" ] || fail "$name is libtorch $found but lacks lib/libtorch_cpu.so. $remedy"
}

# install_libtorch DIR KIND: fetches the pinned wheels into DIR. Written aside and renamed, so that an
# interrupted download is never taken for a libtorch.
install_libtorch() {
    local dir=$1 kind=$2 parent aside log=.build/pip.log lib
    parent=$(dirname "$dir")
    mkdir -p "$parent"
    # What killed set-ups left behind.
    find "$parent" -maxdepth 1 -name '.partial-*' -mmin +120 -exec rm -rf {} +
    aside=$(mktemp -d "$parent/.partial-XXXXXX")
    # shellcheck disable=SC2064 # the folder of now is meant
    trap "rm -rf '$aside'" EXIT
    local wheels=("torch==$torch_version") extra=() size='some 4 GB'
    if [ "$kind" = cpu ]; then
        wheels=("${cpu_wheels[@]}") extra=(--no-deps) size='540 MB'
    fi
    say "downloading libtorch $torch_version ($kind, $size) to $dir (log: $log)"
    python3 -m pip install --quiet --disable-pip-version-check --no-compile "${extra[@]}" \
        --target "$aside/root" "${wheels[@]}" >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        fail "pip could not install ${wheels[*]}. Its last lines are above; check the network and the Python version (3.10 or newer), and run this again."
    }
    if [ "$kind" = cpu ]; then
        for lib in "${gpu_only[@]}"; do rm -f "$aside/root/torch/lib/$lib"; done
    fi
    check_libtorch "$aside/root/torch" "what pip installed"
    # Another set-up of this user may have been quicker: then its result is as good.
    mv -T "$aside/root" "$dir" 2>/dev/null || [ -d "$dir/torch" ] || fail "$dir cannot be written. Check its permissions."
    rm -rf "$aside"
    trap - EXIT
}

# install_headers DIR: NCCL's and CUDA's headers into the site folder DIR, beside torch. nccl.h comes last:
# where it is, the others are.
install_headers() {
    local site=$1/nvidia log=.build/pip.log aside
    if [ -r "$site/nccl/include/nccl.h" ] && [ -r "$site/cu13/include/nv/target" ]; then return; fi
    aside=$(mktemp -d "$(dirname "$1")/.partial-XXXXXX")
    # shellcheck disable=SC2064 # the folder of now is meant
    trap "rm -rf '$aside'" EXIT
    say "downloading the headers of NCCL and CUDA (209 MB, of which 2 MB are kept) to $site (log: $log)"
    python3 -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
        --target "$aside" "${header_wheels[@]}" >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        fail "pip could not install ${header_wheels[*]}. Its last lines are above; check the network, and run this again."
    }
    mkdir -p "$site/cu13/include" "$site/nccl"
    cp -rn "$aside/nvidia/cu13/include/crt" "$aside/nvidia/cu13/include/nv" "$site/cu13/include/"
    cp -rn "$aside/nvidia/nccl/include" "$site/nccl/"
    rm -rf "$aside"
    trap - EXIT
}

# Rust new enough, with rustfmt and clippy.
need_rust() {
    command -v cargo >/dev/null ||
        fail "'cargo' is missing, which builds rocket. Install Rust $oldest_rust or newer (https://rustup.rs) and run this again."
    local found
    found=$(rustc --version | awk '{ print $2 }')
    [ "$(printf '%s\n' "$oldest_rust" "$found" | sort -V | head -n 1)" = "$oldest_rust" ] ||
        fail "Rust is $found, but rocket needs $oldest_rust or newer. Run 'rustup update stable' and this again."
    cargo fmt --version >/dev/null 2>&1 || fail "rustfmt is missing, which 'make check' runs. Run 'rustup component add rustfmt' and this again."
    cargo clippy --version >/dev/null 2>&1 || fail "clippy is missing, which 'make check' runs. Run 'rustup component add clippy' and this again."
}

main() {
    mkdir -p .build
    local kind=cpu wanted
    [ "${ROCKET_CUDA:-0}" = 1 ] && kind=cuda
    if [ -n "${LIBTORCH:-}" ]; then
        wanted=$(realpath -m "$LIBTORCH")
    else
        wanted=$(cache_dir)/libtorch-$torch_version-$kind/torch
    fi

    local stamp
    stamp="$(sha256sum <scripts/setup.sh) $wanted $(version_of "$wanted") $PATH $(command -v nasm || true)"
    if stamped .build/setup.stamp "$stamp" && [ -e .build/libtorch/lib/libtorch_cpu.so ] &&
        [ "$(realpath .build/libtorch)" = "$(realpath "$wanted")" ]; then
        say "set-up is in place (libtorch $torch_version, $wanted)"
        return
    fi

    need_rust
    need g++ g++ 'compiles the bridge to libtorch'
    need git git 'pins experiments to commits'
    want_nasm
    # Cargo does not see that the assembler came or went; the stamp of its last build does.
    local assembler=without
    if command -v nasm >/dev/null; then assembler=with; fi
    if [ -d target/release ] && ! stamped .build/nasm "$assembler"; then
        cargo clean --quiet --release --package mozjpeg-sys
    fi
    printf '%s' "$assembler" >.build/nasm
    if [ -n "${LIBTORCH:-}" ]; then
        check_libtorch "$wanted" "LIBTORCH=$LIBTORCH"
        say "using your own libtorch $torch_version in $wanted"
    elif [ -d "$wanted" ]; then
        check_libtorch "$wanted" "$wanted"
        say "libtorch $torch_version ($kind) is in $wanted"
    else
        need_python
        install_libtorch "$(dirname "$wanted")" "$kind"
    fi

    if [ -z "${LIBTORCH:-}" ]; then
        need_python
        install_headers "$(dirname "$wanted")"
    fi

    # torch-sys finds CUDA when it is compiled; headers and names are the same for every build of one version.
    local before=none after=cpu
    if [ -e .build/libtorch/lib/libtorch_cpu.so ]; then
        before=cpu
        [ -e .build/libtorch/lib/libtorch_cuda.so ] && before=cuda
    fi
    [ -e "$wanted/lib/libtorch_cuda.so" ] && after=cuda
    if [ -e .build/libtorch ] && [ ! -L .build/libtorch ]; then
        fail ".build/libtorch is not a link but a folder, which set-up did not make. Move it away and run this again."
    fi
    ln -sfnT "$wanted" .build/libtorch
    if [ "$before" != none ] && [ "$before" != "$after" ] && [ -d target/release ]; then
        say "libtorch changed from $before to $after: what is linked to it is built again"
        cargo clean --quiet --release --package torch-sys
    fi
    printf '%s' "$stamp" >.build/setup.stamp
    say "set-up done"
}

main "$@"
