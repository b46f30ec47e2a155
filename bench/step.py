"""Training steps against Python's: seconds per step and peak resident memory, in turn.

Both sides get the same experiment and the same batches, and compute with the same libtorch and threads.
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import data

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "rocket-worker"
PEER = ROOT / "bench/peer/step.py"
FOLDER = ROOT / ".build/bench/data"
DEMO = ROOT / ".build/demo/data"
ROUNDS = int(os.environ.get("ROUNDS", "3"))


@dataclass
class Size:
    """How long a benchmark takes."""

    threads: int
    steps: int
    warmup: int


SMALL = Size(threads=1, steps=10, warmup=3)
LARGE = Size(threads=2, steps=2, warmup=1)


@dataclass
class Step:
    """One benchmark: an experiment file, and the overrides of each of our variants by the name it is printed under."""

    experiment: Path
    size: Size
    variants: dict = field(default_factory=dict)
    part: str = "step"
    # Whether the peer takes PyTorch's fused AdamW, which the original does not.
    fused: bool = False


def measured(command, result=True):
    """Runs a program of the benchmark; the last line that it prints is its result, if it has one."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: '{' '.join(map(str, command))}' ended with {done.returncode}; what it said is above")
    return json.loads(done.stdout.splitlines()[-1]) if result else None


def report(name, unit, ours, peer, digits, scale=1.0):
    """One line of result from the figures of all rounds."""
    a, b = statistics.median(ours) * scale, statistics.median(peer) * scale
    print(f"bench {name} ours {a:.{digits}f} {unit} peer {b:.{digits}f} {unit} ratio {b / a:.3f}", flush=True)


def run(step):
    """Measures all variants and the peer, round by round, and prints two lines per variant."""
    size = step.size
    common = ["--threads", size.threads, "--warmup", size.warmup, "--steps", size.steps]
    batches = ROOT / ".build/bench/step.safetensors"
    ours = [WORKER, "bench", step.part, step.experiment]
    measured([*ours, "--steps", 0, "--warmup", 0, "--dump-batch", batches])
    peer = [sys.executable, PEER, step.experiment, "--batches", batches, "--part", step.part, *common]
    peer += ["--fused"] if step.fused else []
    figures = {name: [] for name in step.variants}
    peers = []
    for _ in range(ROUNDS):
        for name, overrides in step.variants.items():
            options = [option for override in overrides for option in ("--set", override)]
            figures[name].append(measured([*ours, *common, *options]))
        peers.append(measured(peer))
    for name, results in figures.items():
        seconds = [[result["median_seconds"] for result in side] for side in (results, peers)]
        report(name, "s", *seconds, digits=4)
        memory = [[result["peak_bytes"] for result in side] for side in (results, peers)]
        report(f"{name}-memory", "MB", *memory, digits=0, scale=1e-6)


def demo():
    """The demo's model."""
    return ROOT / "jobs" / "demo.yaml"


def named(name, batch, **train):
    """A model of the paper, on captions as long as CC3M's."""
    data.prepare(DEMO, FOLDER)
    train = {"batch_size": batch, **train}
    experiment = data.experiment(FOLDER, {"name": name, "separate_proj": True}, train)
    path = ROOT / ".build/bench" / f"{name}{'-checkpoint' if train.get('checkpoint_grad') else ''}-{batch}.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(experiment, indent=1), encoding="utf-8")
    return path


def both(name):
    """All 77 places of every caption computed, as the peer does, and only those up to the longest captions."""
    return {name: ["text.truncate=false"], f"{name}-truncated": []}


BENCHMARKS = {
    "step": lambda: Step(demo(), SMALL, both("step"), fused=True),
    "step-r50": lambda: Step(named("CL2L_R50_CL2L", 8), LARGE, both("step-r50")),
    "step-r50-checkpoint": lambda: Step(
        named("CL2L_R50_CL2L", 8, checkpoint_grad=True), LARGE, both("step-r50-checkpoint")
    ),
    "step-vitb16": lambda: Step(named("CL2L_VITB16_CL2L", 4), LARGE, both("step-vitb16")),
    "step-vitb16-checkpoint": lambda: Step(
        named("CL2L_VITB16_CL2L", 4, checkpoint_grad=True), LARGE, both("step-vitb16-checkpoint")
    ),
    "step-r50-fused": lambda: Step(named("CL2L_R50_CL2L", 8), LARGE, both("step-r50-fused"), fused=True),
    "step-vitb16-fused": lambda: Step(named("CL2L_VITB16_CL2L", 4), LARGE, both("step-vitb16-fused"), fused=True),
    # The text tower alone, forward and backward, at a batch whose longest caption is near the context's end.
    "text-tower": lambda: Step(named("CL2L_R50_CL2L", 128), LARGE, both("text-tower"), part="text"),
}
