"""Training steps against Python's: seconds per step and peak resident memory, in turn.

Both sides get the same experiment and the same batches, and compute with the same libtorch and threads. Where memory
holds both, they take turns step by step, and a ratio is the median over the rounds of each round's: the speed of a
shared machine drifts by tens of per cent within minutes. How fast a process is also depends on where its memory
happened to lie when it began, by up to a fifth of large steps, so all begin anew every few rounds, each time in another
order. Elsewhere they take turns process by process.
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
ROUNDS = int(os.environ.get("ROUNDS", "0"))


@dataclass
class Size:
    """How long a benchmark takes: `rounds` turns of all sides, which is of each step unless they are `apart`."""

    threads: int
    warmup: int
    rounds: int
    # Rounds after which the processes begin anew.
    lasting: int = 1
    apart: bool = False
    # Of one process, where they are apart.
    steps: int = 1


SMALL = Size(threads=1, warmup=3, rounds=30, lasting=10)
LARGE = Size(threads=2, warmup=1, rounds=10, lasting=2)
HUGE = Size(threads=2, warmup=1, rounds=3, apart=True)


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
    ratio = statistics.median(theirs / mine for mine, theirs in zip(ours, peer, strict=True))
    print(f"bench {name} ours {a:.{digits}f} {unit} peer {b:.{digits}f} {unit} ratio {ratio:.3f}", flush=True)


class Paced:
    """A program that makes a step when it is told to."""

    def __init__(self, command):
        command = [str(part) for part in [*command, "--paced"]]
        self.name = " ".join(command)
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self):
        """Makes one and returns its figures."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            sys.exit(f"error: '{self.name}' ended with {self.process.wait()}; what it said is above")
        return json.loads(line)

    def end(self):
        """Lets it go."""
        self.process.stdin.close()
        self.process.wait()


def together(sides, size, rounds):
    """Seconds of each side by round, in turn step by step, and the peak of each start."""
    threads = ["--threads", size.threads]
    seconds = {name: [] for name in sides}
    peaks = {name: [] for name in sides}
    order = list(sides)
    for first in range(0, rounds, size.lasting):
        programs = {name: Paced([*sides[name], *threads]) for name in order}
        for program in programs.values():
            for _ in range(size.warmup):
                program.step()
        figures = {}
        for _ in range(min(size.lasting, rounds - first)):
            for name, program in programs.items():
                figures[name] = program.step()
                seconds[name].append(figures[name]["seconds"])
        for name, program in programs.items():
            program.end()
            peaks[name].append(figures[name]["peak_bytes"])
        order = [*order[1:], order[0]]
    return {name: (seconds[name], peaks[name]) for name in sides}


def apart(sides, size, rounds):
    """Figures of each side by round, in turn process by process."""
    sizes = ["--threads", size.threads, "--warmup", size.warmup, "--steps", size.steps]
    figures = {name: [] for name in sides}
    for _ in range(rounds):
        for name, command in sides.items():
            figures[name].append(measured([*command, *sizes]))
    return {
        name: ([figure["median_seconds"] for figure in of], [figure["peak_bytes"] for figure in of])
        for name, of in figures.items()
    }


def run(step):
    """Measures all variants and the peer, and prints two lines per variant."""
    size = step.size
    batches = ROOT / ".build/bench/step.safetensors"
    ours = [WORKER, "bench", step.part, step.experiment]
    measured([*ours, "--steps", 0, "--warmup", 0, "--dump-batch", batches])
    sides = {}
    for name, overrides in step.variants.items():
        sides[name] = [*ours, *(option for override in overrides for option in ("--set", override))]
    sides[PEER.name] = [sys.executable, PEER, step.experiment, "--batches", batches, "--part", step.part]
    sides[PEER.name] += ["--fused"] if step.fused else []
    figures = (apart if size.apart else together)(sides, size, ROUNDS or size.rounds)
    for name in step.variants:
        report(name, "s", figures[name][0], figures[PEER.name][0], digits=4)
        report(f"{name}-memory", "MB", figures[name][1], figures[PEER.name][1], digits=0, scale=1e-6)


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
    "text-tower": lambda: Step(named("CL2L_R50_CL2L", 128), HUGE, both("text-tower"), part="text"),
}
