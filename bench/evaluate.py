"""Zero-shot evaluations against the Python original's way of doing them, in turn: images per second.

Both sides have the same weights, photographs, prompts, libtorch and cores: two threads of torch and two decoding. What
is timed goes from the prompts to the scores of all eleven heads; the model is there before the clock runs. Both must
find the same class best for the same number of images.
"""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import evaluation_set
from step import ROOT, ROUNDS, WORKER, measured, report

PEER = ROOT / "bench/peer/eval.py"
FOLDER = ROOT / ".build/bench/evaluation"
IMAGES = int(os.environ.get("IMAGES", "800"))


@dataclass
class Evaluation:
    """One benchmark: a model of the paper, and the overrides of each of our variants by its name."""

    model: str
    variants: dict = field(default_factory=dict)
    batch: int = 64


def run(bench):
    """Measures all variants and the peer, round by round, and prints one line per variant."""
    photos, names = evaluation_set.prepare(FOLDER, IMAGES)
    files = {key: str((FOLDER / f"{key}.json").resolve()) for key in ("catalog", "labels", "templates")}
    experiment = {
        "name": "bench",
        "model": {"name": bench.model, "separate_proj": True},
        "data": {"root": "/", "metadata": "/"},
        "eval": {"datasets": ["photos"], "batch_size": bench.batch, **files},
    }
    path = FOLDER / f"{bench.model}.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(experiment, indent=1), encoding="utf-8")
    (FOLDER / "names.json").write_text(json.dumps(names), encoding="utf-8")
    ours = [WORKER, "bench", "eval", path]
    measured([*ours, "--dump", FOLDER / bench.model], result=False)
    peer = [sys.executable, PEER, path, "--dump", FOLDER / bench.model, "--images", photos]
    peer += ["--labels", FOLDER / "names.json", "--threads", 2, "--workers", 2, "--batch", bench.batch]
    figures = {name: [] for name in bench.variants}
    peers = []
    for _ in range(ROUNDS):
        for name, overrides in bench.variants.items():
            options = [option for override in overrides for option in ("--set", override)]
            figures[name].append(measured([*ours, "--threads", 2, "--workers", 2, *options]))
        peers.append(measured(peer))
    for name, results in figures.items():
        exact = not bench.variants[name]
        off = max(abs(a - b) for a, b in zip(results[0]["top1"], peers[0]["top1"]))
        if exact and off > 1:
            sys.exit(f"error: {name}: top-1 differs by {off} images: {results[0]['top1']}, {peers[0]['top1']}")
        seconds = [[result["seconds"] for result in side] for side in (results, peers)]
        report(name, "s", *seconds, digits=2)
        rates = [IMAGES / min(side) for side in seconds]
        classes = min(result["classes_seconds"] for result in results)
        print(
            f"  {name}: ours {rates[0]:.0f} images/s, peer {rates[1]:.0f} images/s, best of {ROUNDS}; of ours "
            f"{classes:.2f} s for the classes; top-1 differs by {off} images at most",
            flush=True,
        )


def named(name, model):
    """The model in float32 as the peer has it, and in bfloat16."""
    return Evaluation(model, {name: [], f"{name}-bf16": ["eval.precision=bf16"]})


BENCHMARKS = {
    "eval": lambda: named("eval", "CL2L_VITS32_CL2L"),
    "eval-vits16": lambda: named("eval-vits16", "CL2L_VITS16_CL2L"),
    "eval-r50": lambda: named("eval-r50", "CL2L_R50_CL2L"),
}
