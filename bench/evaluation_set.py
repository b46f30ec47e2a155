"""An imagefolder set of photographs of about 500 x 375 pixels, for timing evaluations.

They are cut, at random places, sizes and mirrorings that are always the same, from the two photographs that
scikit-learn ships (`sklearn/datasets/images`, CC BY), and saved as JPEG of quality 90. Four classes; what an image
shows changes no timing.
"""

import json
import random
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

SIZE = (500, 375)
CLASSES = ["temple", "flower", "roof", "petal"]
PROMPTS = [
    "a photo of a {}.",
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a photo of the large {}.",
    "a photo of the small {}.",
    "a drawing of a {}.",
    "a close-up photo of the {}.",
    "a {} in the distance.",
]
# Class names besides those of the images, so that as many texts are encoded as for a set of this size.
OTHERS = 96


def prepare(folder, count):
    """Makes `folder/photos`, catalog, labels and templates once; returns the set's folder and its class names."""
    photos = folder / "photos"
    names = CLASSES + [f"thing number {number}" for number in range(OTHERS)]
    stamp = folder / "stamp"
    wanted = f"1 {count}"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        make(photos, names, count)
        entry = {"path": str(photos.resolve()), "type": "imagefolder", "test": "."}
        for file, value in [("catalog", entry), ("labels", names), ("templates", PROMPTS)]:
            (folder / f"{file}.json").write_text(json.dumps({"photos": value}), encoding="utf-8")
        # Last: it says that the rest is whole.
        stamp.write_text(wanted, encoding="utf-8")
    sizes = [path.stat().st_size for path in photos.rglob("*.jpg")]
    print(f"photos: {len(sizes)} of {SIZE[0]} x {SIZE[1]}, {sum(sizes) / len(sizes) / 1024:.0f} KB on average", flush=True)
    return photos, names


def make(photos, names, count):
    """Draws the images; every class has some, since no class may be empty."""
    draw = random.Random(0)
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    for number in range(count):
        source = sources[number % len(sources)]
        scale = draw.uniform(0.6, 1.0)
        width = round(min(source.width, source.height * 4 / 3) * scale)
        height = round(width * SIZE[1] / SIZE[0])
        left, top = draw.randint(0, source.width - width), draw.randint(0, source.height - height)
        image = source.crop((left, top, left + width, top + height)).resize(SIZE, Image.Resampling.LANCZOS)
        if draw.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        folder = photos / names[number % len(names)]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number:05}.jpg", quality=90)
