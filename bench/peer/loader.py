"""The original's way from files to batches: torchvision and Pillow, NLTK and CLIP's tokenizer, in a DataLoader.

    python loader.py EXPERIMENT.json --samples N --workers N --wordnet FOLDER

Images are opened as the original opens them: files by their path, members of archives by opening the archive
anew for each. Prints {"samples_per_second": ...}, timed between two batches of a stream without end, so that what
the workers made ahead before and have ahead after is the same.
"""

import argparse
import io
import json
import pickle
import random
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile, ImageFilter
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from captions import Captions

ImageFile.LOAD_TRUNCATED_IMAGES = True
WARMUP = 6


class Blur:
    """Pillow's Gaussian blur of a random radius."""

    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class Samples(Dataset):
    """Images and captions of an experiment's `data:`."""

    def __init__(self, experiment, wordnet):
        data, augment = experiment["data"], experiment["augment"]
        self.root = Path(data["root"])
        self.zips = data["dataset"] == "yfcc15m"
        if self.zips:
            with open(data["metadata"], "rb") as file:
                self.samples = [(number, [title, text]) for number, title, text in pickle.load(file)]
        else:
            listed = np.load(data["metadata"], allow_pickle=True)
            self.samples = [(sample["image_id"], sample["captions"]) for sample in listed]
        size = augment["size"]
        to_tensor = [
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
        self.weak = transforms.Compose(
            [transforms.RandomResizedCrop(size, (augment["weak_min_scale"], 1.0), interpolation=InterpolationMode.BICUBIC)]
            + to_tensor
        )
        self.strong = transforms.Compose(
            [
                transforms.RandomResizedCrop(
                    size, (0.08, augment["multicrop_max_scale"]), interpolation=InterpolationMode.BICUBIC
                ),
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                transforms.RandomGrayscale(p=0.2),
                transforms.RandomApply([Blur()], p=0.5),
                transforms.RandomHorizontalFlip(),
            ]
            + to_tensor
        )
        self.captions = Captions(3, wordnet)

    def __len__(self):
        return len(self.samples)

    def open(self, name):
        """The image of a sample."""
        if not self.zips:
            return Image.open(self.root / name).convert("RGB")
        digits = f"{name:08}"
        with zipfile.ZipFile(self.root / "images" / digits[:2] / f"{digits[2:5]}.zip") as archive:
            return Image.open(io.BytesIO(archive.read(f"{digits[5:]}.jpg"))).convert("RGB")

    def __getitem__(self, index):
        name, captions = self.samples[index]
        image = self.open(name)
        return self.weak(image), self.strong(image), self.strong(image), self.captions(random.choice(captions))


class Endless(Sampler):
    """All samples in random order, again and again."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        draw = random.Random(0)
        while True:
            yield from draw.sample(range(self.count), self.count)


def main():
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--wordnet")
    args = parser.parse_args()
    experiment = json.loads(args.experiment.read_text(encoding="utf-8"))
    batch = experiment["train"]["batch_size"]
    samples = Samples(experiment["peer"], args.wordnet)
    # Threads of torch's in each worker process would only get into each other's way.
    torch.set_num_threads(1)
    loader = iter(DataLoader(samples, batch, sampler=Endless(len(samples)), num_workers=args.workers))
    for _ in range(WARMUP):
        next(loader)
    count = -(-args.samples // batch)
    begin = time.perf_counter()
    for _ in range(count):
        next(loader)
    seconds = time.perf_counter() - begin
    print(json.dumps({"samples_per_second": count * batch / seconds, "samples": count * batch}), flush=True)


if __name__ == "__main__":
    main()
