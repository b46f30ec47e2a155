"""A small data set in CC3M's format whose captions are as long as CC3M's, for timing steps.

The lengths follow a log-normal law with CC3M's median of 9 words and about its mean of 10.3 (Sharma et al., ACL 2018,
table 4). The words are those of the demo's captions, the images the demo's, enlarged: what an image shows changes no
timing.
"""

import math
import random
import statistics
from pathlib import Path

import numpy as np
from PIL import Image

MEDIAN_WORDS = 9
SIGMA = 0.45
SHORTEST, LONGEST = 3, 40
SAMPLES = 256
SIDE = 256


def prepare(demo, folder):
    """Makes `folder/metadata.npy` and `folder/images` once, and prints how the lengths are distributed."""
    metadata = folder / "metadata.npy"
    if not metadata.exists():
        make(demo, folder, metadata)
    lengths = sorted(len(s["captions"][0].split()) for s in np.load(metadata, allow_pickle=True))
    tenths = ", ".join(str(lengths[len(lengths) * tenth // 10]) for tenth in range(1, 10))
    print(
        f"captions: {len(lengths)}, words mean {statistics.mean(lengths):.1f}, deviation {statistics.stdev(lengths):.1f}, "
        f"shortest {lengths[0]}, longest {lengths[-1]}, tenths {tenths}",
        flush=True,
    )
    return metadata


def make(demo, folder, metadata):
    """Draws the samples; always the same ones."""
    draw = random.Random(0)
    source = list(np.load(demo / "train.npy", allow_pickle=True))
    words = sorted({word for sample in source for caption in sample["captions"] for word in caption.split()})
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(SAMPLES):
        name = f"{number:04}.png"
        with Image.open(demo / "train" / source[number * len(source) // SAMPLES]["image_id"]) as image:
            image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(images / name)
        count = round(draw.lognormvariate(math.log(MEDIAN_WORDS), SIGMA))
        count = min(LONGEST, max(SHORTEST, count))
        samples.append({"image_id": name, "captions": [" ".join(draw.choices(words, k=count))]})
    # Last: it says that the rest is whole.
    np.save(metadata, np.array(samples, dtype=object))


def experiment(folder, model, train):
    """An experiment on that data, as a dictionary."""
    return {
        "name": "bench",
        "model": model,
        "data": {
            "dataset": "cc3m",
            "root": str(Path(folder).resolve() / "images"),
            "metadata": str(Path(folder).resolve() / "metadata.npy"),
            "workers": 1,
        },
        "text": {"clean_before_augment": True},
        "train": {"max_steps": 100, **train},
        "optim": {"warmup_epochs": 0},
    }
