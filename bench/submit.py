"""How long handing over a job takes, on a Slurm of 4 nodes x 8 GPUs of the benchmark's own.

`rocket submit` (pin to a commit, programs verified, run directory, job) against

- the bare `sbatch` of the very script that it made, pair by pair, each first in turn;
- submitit's AutoExecutor in a process with the imports of the original's script.

The partition accepts jobs and starts none, and each is cancelled before the next.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROCKET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "rocket"
PEER = ROOT / "bench/peer/submit.py"
PARTITION = "low"
PAIRS = 40
ROUNDS = 5
# What may be added to the bare sbatch.
LIMIT_MS = 50


class Site:
    """A cluster, and a git repository with the demo's experiment."""

    def __init__(self, folder):
        self.folder = folder
        self.cluster_env = {
            **os.environ,
            "CLUSTER_DIR": str(folder / "cluster"),
            "CLUSTER_PORT": os.environ.get("CLUSTER_PORT", "18820"),
        }
        self.project = folder / "project"
        self.env = {**os.environ, "SLURM_CONF": str(folder / "cluster/slurm.conf"), "HOME": str(folder / "home")}
        (folder / "home").mkdir()

    def __enter__(self):
        self.script("up")
        self.slurm("scontrol", "update", f"PartitionName={PARTITION}", "State=DOWN")
        for name in ("jobs/demo.yaml", "demo/dataset_catalog.json", "demo/labels.json", "demo/templates.json"):
            target = self.project / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        git = ["git", "-c", "user.name=Bench", "-c", "user.email=bench@example.org"]
        for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Start"]):
            subprocess.run(git + arguments, cwd=self.project, env=self.env, check=True)
        return self

    def __exit__(self, *_):
        self.script("down")

    def script(self, verb):
        """Runs scripts/cluster.sh, which says itself what is wrong."""
        done = subprocess.run(
            [ROOT / "scripts/cluster.sh", verb], env=self.cluster_env, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode and verb == "up":
            sys.exit("error: the benchmark 'submit' needs a Slurm cluster; why there is none is said above")

    def slurm(self, *command):
        """One of Slurm's programs."""
        subprocess.run(command, env=self.env, check=True, stdout=subprocess.DEVNULL)

    def timed(self, *command):
        """Seconds that a program takes, and what it prints; its job is cancelled after."""
        begin = time.perf_counter()
        done = subprocess.run(
            [str(part) for part in command], cwd=self.project, env=self.env, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - begin
        if done.returncode:
            sys.exit(f"error: '{' '.join(map(str, command))}' ended with {done.returncode}:\n{done.stderr}")
        self.slurm("scancel", f"--partition={PARTITION}")
        return seconds, done.stdout

    def rocket(self):
        """`rocket submit`; gives seconds and the run's directory."""
        options = {
            "backend": "slurm",
            "partition": PARTITION,
            "nodes": 4,
            "gpus_per_node": 8,
            "tasks_per_node": 8,
            "cpus_per_task": 1,
            "mem": "40G",
            "time": "1:00:00",
        }
        overrides = [f"--set=cluster.{name}={value}" for name, value in options.items()]
        seconds, said = self.timed(ROCKET, "submit", "jobs/demo.yaml", "--again", *overrides)
        run = next(line.split()[1] for line in said.splitlines() if line.startswith("run "))
        return seconds, self.project / "runs" / run


def report(name, ours, peer):
    """One line of result."""
    a, b = statistics.median(ours), statistics.median(peer)
    print(f"bench {name} ours {a:.4f} s peer {b:.4f} s ratio {b / a:.3f}", flush=True)


def over_sbatch(site):
    """The price of everything that `rocket submit` does besides calling sbatch."""
    _, run = site.rocket()
    ours, bare = [], []
    for pair in range(PAIRS):
        if pair % 2:
            bare.append(site.timed("sbatch", run / "job.sbatch")[0])
        seconds, run = site.rocket()
        ours.append(seconds)
        if not pair % 2:
            bare.append(site.timed("sbatch", run / "job.sbatch")[0])
    report("submit-over-sbatch", ours, bare)
    added = sorted(1000 * (a - b) for a, b in zip(ours, bare))
    middle = statistics.median(added)
    print(
        f"  rocket submit adds {middle:.1f} ms to sbatch (median of {PAIRS} pairs; a tenth below "
        f"{added[PAIRS // 10]:.1f} ms, a tenth above {added[-PAIRS // 10 - 1]:.1f} ms): "
        f"{'within' if middle <= LIMIT_MS else 'MORE THAN'} the {LIMIT_MS} ms that it may",
        flush=True,
    )


def over_submitit(site):
    """A researcher's wait until the job is queued."""
    peer = (sys.executable, PEER, "--folder", site.folder / "submitit", "--partition", PARTITION)
    # Once before: files are read from the disk and compiled by Python.
    site.timed(*peer)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(site.rocket()[0])
        theirs.append(site.timed(*peer)[0])
    report("submit-over-submitit", ours, theirs)


def submit():
    """Both comparisons."""
    # Not within a home that may be closed: munge and slurmd look at every folder above.
    with tempfile.TemporaryDirectory(prefix="rocket-bench-", dir="/var/tmp") as folder, Site(Path(folder)) as site:
        over_sbatch(site)
        over_submitit(site)
