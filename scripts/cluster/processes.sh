# shellcheck shell=bash
# Starting and ending the daemons of one cluster. Sourced by scripts/cluster.sh, which sets $dir and $conf.

# pid_of NAME: the pid of a daemon that runs (munged, slurmctld, n1 ... n4); fails if it does not.
pid_of() {
    local pid
    pid=$(cat "$dir/pid/$1" 2>/dev/null) && [ -n "$pid" ] || return 1
    # A pid file outlives its process and the number may be somebody else's by now.
    ours "$pid" && printf '%s' "$pid"
}

# ours PID: whether a process lives that belongs to this cluster: a daemon, or part of a job.
ours() {
    local environment=/proc/$1/environ
    grep -qzxF "SLURM_CONF=$conf" "$environment" 2>/dev/null || return 1
    grep -qzxF "ROCKET_CLUSTER=$dir" "$environment" 2>/dev/null && return
    # Jobs get an environment of their own. A shell that only looks at the cluster has no job id.
    grep -qz '^SLURM_JOB_ID=' "$environment" 2>/dev/null
}

# everyone: pids of all that belongs to this cluster, daemons or not, with the descendants of its steps
# (a process may have an environment without a trace of Slurm).
everyone() {
    local environment pid
    local found=()
    for environment in /proc/[0-9]*/environ; do
        pid=${environment#/proc/}
        pid=${pid%/environ}
        if [ "$pid" != $$ ] && ours "$pid"; then found+=("$pid"); fi
    done
    [ "${#found[@]}" != 0 ] || return 0
    ps -e -o pid=,ppid= | awk -v roots="${found[*]}" '
        BEGIN { n = split(roots, list, " "); for (i = 1; i <= n; i++) in_[list[i]] = 1 }
        { parent[$1] = $2 }
        END {
            do {
                grown = 0
                for (pid in parent) if (!(pid in in_) && (parent[pid] in in_)) { in_[pid] = 1; grown = 1 }
            } while (grown)
            for (pid in in_) if (pid in parent) print pid
        }'
}

# start NAME: starts a daemon that does not run, with an environment that says whose it is.
start() {
    local name=$1 command=()
    pid_of "$name" >/dev/null && return
    case $name in
        munged)
            # --force: folders above that are open to a group are no danger to a cluster for tests.
            command=(munged --force --num-threads=2 --key-file="$dir/munge/key" --socket="$dir/munge/socket"
                --pid-file="$dir/pid/munged" --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed")
            ;;
        slurmctld) command=(slurmctld -f "$conf") ;;
        n[1-4]) command=(slurmd -N "$name" -f "$conf") ;;
        *) fail "there is no daemon '$name'; there are munged, slurmctld, n1, n2, n3 and n4." ;;
    esac
    rm -f "$dir/pid/$name"
    # From the log folder, so that no daemon keeps a folder of the user's busy.
    (cd "$dir/log" && env -i PATH="$PATH" LANG=C.UTF-8 SLURM_CONF="$conf" ROCKET_CLUSTER="$dir" \
        "${command[@]}" >>"$dir/log/start.log" 2>&1 </dev/null) || {
        tail -n 3 "$dir/log/start.log" >&2
        fail "$name of the cluster does not start. What it said is above and in $dir/log."
    }
    wait_until 20 pid_of "$name" || fail "$name of the cluster does not run. Look at $dir/log."
}

# end NAME SIGNAL: signals a daemon that runs and waits until it is gone.
end() {
    local pid
    pid=$(pid_of "$1") || return 0
    kill "-$2" "$pid" 2>/dev/null || true
    wait_until 20 gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
    wait_until 5 gone "$pid" || fail "$1 of the cluster (process $pid) does not end."
}

# gone PID: whether no such process lives; one that waits to be reaped does not.
gone() { ! grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null; }

# wait_until SECONDS COMMAND...: tries it until it succeeds; fails when the time is over.
wait_until() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.05
    done
}
