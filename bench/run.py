"""Runs benchmarks against the Python way of doing the same, in turn (A B A B ...), and prints one line each:

    bench <name> ours <value> s peer <value> s ratio <ours faster by>

A figure is the median over the rounds of each round's median.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from submit import submit

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "rocket-worker"
EXPERIMENT = ROOT / "jobs" / "demo.yaml"
ROUNDS = 3
STEPS = 10
THREADS = 1


def median_seconds(command):
    """Runs a program of the benchmark; the last line that it prints is its result."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: '{' '.join(map(str, command))}' ended with {done.returncode}; what it said is above")
    return json.loads(done.stdout.splitlines()[-1])["median_seconds"]


def compare(name, ours, peer):
    """One line of result."""
    figures = {"ours": [], "peer": []}
    for _ in range(ROUNDS):
        figures["ours"].append(median_seconds(ours))
        figures["peer"].append(median_seconds(peer))
    a, b = (statistics.median(figures[side]) for side in ("ours", "peer"))
    print(f"bench {name} ours {a:.4f} s peer {b:.4f} s ratio {b / a:.3f}", flush=True)


def step(name, *options):
    """One optimiser step of the demo's model: forward, loss, backward, AdamW; one process, the same batches."""
    batches = ROOT / ".build/bench/step.safetensors"
    ours = [WORKER, "bench", "step", EXPERIMENT, "--threads", THREADS]
    median_seconds([*ours, "--steps", 1, "--warmup", 0, "--dump-batch", batches])
    peer = [sys.executable, ROOT / "bench/peer/step.py", EXPERIMENT, "--batches", batches, "--threads", THREADS]
    compare(name, [*ours, "--steps", STEPS, *options], [*peer, "--steps", STEPS])


BENCHMARKS = {
    # All 77 places of every caption are computed, as the peer does.
    "step": lambda: step("step", "--set", "text.truncate=false"),
    # Text only up to the longest caption of the batch, as the experiment does by default.
    "step-truncated": lambda: step("step-truncated"),
    # Until a job is queued: against the bare sbatch and against submitit. Needs root, as slurmd does.
    "submit": submit,
}


def same_libtorch():
    """Says whether both sides compute with the same library."""
    digests = []
    for folder in (ROOT / ".build/libtorch/lib", Path(torch.__file__).parent / "lib"):
        with open(folder / "libtorch_cpu.so", "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest()[:12])
    same = "the same" if digests[0] == digests[1] else "ANOTHER"
    print(f"libtorch_cpu.so: ours {digests[0]}, peer {digests[1]} ({same}); {THREADS} thread(s) each", flush=True)


def main():
    """See the module."""
    names = sys.argv[1:] or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            sys.exit(f"error: there is no benchmark '{name}'; there are: {', '.join(BENCHMARKS)}")
    same_libtorch()
    for name in names:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
