"""Runs benchmarks against the Python way of doing the same, in turn (A B A B ...), and prints lines

    bench <name> ours <value> <unit> peer <value> <unit> ratio <how many times better ours is>

of times and memory peer over ours, of rates ours over peer. A figure is the median over the rounds; a ratio of steps is
the median of the rounds' ratios.
"""

import hashlib
import sys
from pathlib import Path

import torch

import evaluate
import loader
import step
from index import index
from submit import submit

ROOT = Path(__file__).resolve().parent.parent

# Until a job is queued: against the bare sbatch and against submitit. Needs root, as slurmd does.
BENCHMARKS = {"submit": submit, "index": index, **step.BENCHMARKS, **loader.BENCHMARKS, **evaluate.BENCHMARKS}


def same_libtorch():
    """Says whether both sides compute with the same library."""
    digests = []
    for folder in (ROOT / ".build/libtorch/lib", Path(torch.__file__).parent / "lib"):
        with open(folder / "libtorch_cpu.so", "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest()[:12])
    same = "the same" if digests[0] == digests[1] else "ANOTHER"
    print(f"libtorch_cpu.so: ours {digests[0]}, peer {digests[1]} ({same})", flush=True)


def main():
    """See the module."""
    names = sys.argv[1:] or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            sys.exit(f"error: there is no benchmark '{name}'; there are: {', '.join(BENCHMARKS)}")
    same_libtorch()
    for name in names:
        made = BENCHMARKS[name]()
        if isinstance(made, step.Step):
            step.run(made)
        if isinstance(made, evaluate.Evaluation):
            evaluate.run(made)


if __name__ == "__main__":
    main()
