"""An imagefolder set of the loader's photographs, for timing evaluations: about 500 x 375 pixels and 65 KB each, always
the same. Classes are only names: what an image shows changes no timing.
"""

import json
import random

import loader

THINGS = "cat cup rocket astronaut dog tree boat bridge kite lamp".split()
NAMES = [f"{thing} number {number}" for number in range(10) for thing in THINGS]
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


def prepare(folder, count):
    """Makes `folder/photos`, catalog, labels and templates once; returns the set's folder and its class names."""
    photos = folder / "photos"
    stamp = folder / "stamp"
    if not stamp.exists():
        make(photos, count)
        entry = {"path": str(photos.resolve()), "type": "imagefolder", "test": "."}
        for file, value in [("catalog", entry), ("labels", NAMES), ("templates", PROMPTS)]:
            (folder / f"{file}.json").write_text(json.dumps({"photos": value}), encoding="utf-8")
        # Last: it says that the rest is whole.
        stamp.touch()
    sizes = [path.stat().st_size for path in photos.rglob("*.jpg")]
    mean = sum(sizes) / len(sizes) / 1000
    print(f"photos: {len(sizes)} of {loader.WIDTH} x {loader.HEIGHT}, {mean:.1f} KB on average", flush=True)
    return photos, NAMES


def make(photos, count):
    """Draws the images; every class has some, since no class may be empty."""
    draw = random.Random(0)
    sources = loader.sources()
    for number in range(count):
        folder = photos / NAMES[number % len(NAMES)]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05}.jpg").write_bytes(loader.photo(draw, sources[number % len(sources)]))
