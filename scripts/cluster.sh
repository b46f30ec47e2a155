#!/usr/bin/env bash
# A real Slurm on this machine for tests and for trying things: 4 nodes (n1 ... n4) of 8 GPUs that exist by name
# only, each with its own slurmd, and partitions that preempt each other.
#
#   scripts/cluster.sh up            start it; if it runs already, start only what is missing
#   scripts/cluster.sh down          end it with its jobs and remove its folder
#   scripts/cluster.sh packages      install what it needs, where that is possible
#   scripts/cluster.sh start NAME    start one daemon: munged, slurmctld, n1, n2, n3 or n4
#   scripts/cluster.sh stop NAME     end one daemon in order
#   scripts/cluster.sh kill NAME     end one daemon at once, as a node or controller that is lost
#
#   CLUSTER_DIR=DIR             its folder (.build/cluster); several clusters may run at once
#   CLUSTER_PORT=N              its ports: N for slurmctld, N+1 to N+4 for the nodes (16820)
#   CLUSTER_GRACE=S             grace time of the partitions 'low' and 'short' in seconds (30)
#   CLUSTER_KILL_WAIT=S         from SIGTERM to SIGKILL where there is no grace time (30)
#   CLUSTER_SLURMD_TIMEOUT=S    after which a silent node is down (20)
#   CLUSTER_EXTRA=LINES         more lines for slurm.conf
#
# It does not touch a Slurm of the machine's own: folder, ports, munge key and socket are the cluster's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh
. scripts/cluster/config.sh
. scripts/cluster/processes.sh

readonly packages=(slurm-wlm slurmctld slurmd slurm-client munge)
readonly programs=(slurmctld slurmd munged sbatch srun squeue scontrol sinfo)
readonly daemons=(munged slurmctld n1 n2 n3 n4)
# Daemons lie where a user's PATH may not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

short_host() { uname -n | cut -d. -f1; }

# missing_programs: those of $programs that are not there.
missing_programs() {
    local program
    for program in "${programs[@]}"; do
        command -v "$program" >/dev/null || printf '%s ' "$program"
    done
}

# install_packages: Debian's packages, without letting apt start a Slurm or munge of the machine's own.
install_packages() {
    local missing policy=/usr/sbin/policy-rc.d
    missing=$(missing_programs)
    [ -n "$missing" ] || return 0
    can_apt ||
        fail "a Slurm cluster on this machine needs ${missing% }, which only root can install on Debian; install ${packages[*]} (or your system's equivalents) and run this again."
    mkdir -p .build
    if [ ! -e "$policy" ]; then
        # shellcheck disable=SC2064 # the file of now is meant
        trap "rm -f '$policy'" EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt_install "${packages[@]}"
    missing=$(missing_programs)
    [ -z "$missing" ] || fail "the Debian packages ${packages[*]} are installed, but ${missing% } is not there."
}

# check_machine: refuses where slurmd cannot do its work.
check_machine() {
    [ "$(uname -s)" = Linux ] || fail "a Slurm cluster on this machine needs Linux, and this is $(uname -s)."
    [ "$(id -u)" = 0 ] ||
        fail "a Slurm cluster on this machine must be started by root, because slurmd starts jobs as their users. Run 'sudo make cluster-up'; everybody can use it then."
}

# check_room: refuses a folder or ports that would not work, before anything is started.
check_room() {
    local number
    # slurmstepd puts sockets there, whose paths are limited to 108 bytes.
    [ "${#dir}" -le 72 ] || fail "the path '$dir' is too long for the sockets of Slurm (72 bytes at most). Choose a shorter one with CLUSTER_DIR."
    case $dir in *[[:space:]\'\"\\%#=,]*) fail "the path '$dir' holds characters that slurm.conf cannot. Choose another with CLUSTER_DIR." ;; esac
    { [[ $port =~ ^[1-9][0-9]{3,4}$ ]] && [ "$port" -le 65000 ]; } ||
        fail "CLUSTER_PORT='$port' is not a port between 1000 and 65000."
    if [ -e "$dir" ] && [ ! -e "$dir/.rocket-cluster" ] && [ -n "$(ls -A "$dir")" ]; then
        fail "'$dir' is not empty and holds no cluster. Choose another folder with CLUSTER_DIR."
    fi
    for number in 0 1 2 3 4; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$((port + number))") 2>/dev/null; then
            fail "port $((port + number)) is in use, perhaps by another cluster. Choose others with CLUSTER_PORT (it and the four ports after it are taken)."
        fi
    done
}

# whole: whether every daemon runs.
whole() {
    local name
    for name in "${daemons[@]}"; do pid_of "$name" >/dev/null || return 1; done
}

# ready: whether the controller answers and has heard from every node.
ready() {
    local states
    states=$(SLURM_CONF=$conf timeout 5 sinfo --noheader --Node --format=%T --partition=high) || return 1
    [ "$(grep -cxE 'idle|mixed|allocated|completing|draining|drained' <<<"$states")" = 4 ]
}

# explain: how to use it.
explain() {
    say "a Slurm of 4 nodes with 8 GPUs each runs in $dir"
    printf '  export SLURM_CONF=%s\n  sinfo\n' "$conf"
    printf '  partitions: low (default, preempted with %s s of grace), low0 (none), lowc (cancelled), short (5 minutes),\n' "${CLUSTER_GRACE:-30}"
    printf '  theirs (another account), high (preempts); end it with: make cluster-down\n'
    local folder=$dir
    while [ "$folder" != / ]; do
        # shellcheck disable=SC2012 # one known path
        case $(stat -L -c %A "$folder") in
            *x | *t) ;;
            *)
                say "only root can use it there, because $folder is closed to others; CLUSTER_DIR=/var/tmp/cluster would not be"
                break
                ;;
        esac
        folder=$(dirname "$folder")
    done
}

up() {
    check_machine
    install_packages
    local name
    if [ -e "$conf" ]; then
        [ "$(slurm_conf "$dir" "$port")" = "$(cat "$conf")" ] ||
            fail "a cluster with other settings is in '$dir'. Run 'make cluster-down' first, or choose another folder with CLUSTER_DIR."
        if whole; then
            explain
            return
        fi
    else
        check_room
        umask 022
        write_files "$dir" "$port"
    fi
    for name in "${daemons[@]}"; do start "$name"; done
    wait_until 60 ready || {
        SLURM_CONF=$conf timeout 10 sinfo --Node --long >&2 || true
        fail "the nodes of the cluster do not answer. Look at $dir/log."
    }
    explain
}

# nobody: whether nothing of the cluster lives; kills what does. Again, for what was being started meanwhile.
nobody() {
    local pids
    mapfile -t pids < <(everyone)
    [ "${#pids[@]}" != 0 ] || return 0
    kill -KILL "${pids[@]}" 2>/dev/null || true
    return 1
}

down() {
    [ -e "$dir/.rocket-cluster" ] || {
        say "there is no cluster in $dir"
        return
    }
    check_machine
    # Nothing of it is needed again, so nothing is asked to end in order.
    wait_until 20 nobody || fail "processes of the cluster in $dir do not end: $(everyone | tr '\n' ' ')"
    rm -rf "$dir"
    say "the cluster in $dir is gone"
}

dir=$(realpath -m "${CLUSTER_DIR:-.build/cluster}")
port=${CLUSTER_PORT:-16820}
conf=$dir/slurm.conf

case "${1:-} $#" in
    'up 1') up ;;
    'down 1') down ;;
    'packages 1') install_packages ;;
    'start 2' | 'stop 2' | 'kill 2')
        check_machine
        [ -e "$conf" ] || fail "there is no cluster in '$dir'. Start one with 'make cluster-up'."
        case $1 in
            start) start "$2" ;;
            stop) end "$2" TERM ;;
            kill) end "$2" KILL ;;
        esac
        ;;
    *) fail "what should be done? Say one of: up, down, packages, start NAME, stop NAME, kill NAME." ;;
esac
