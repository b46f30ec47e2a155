"""Turns the emoji sheets of the npm package emoji-datasource into a training set and an evaluation set.

    python prepare.py PACKAGE_FOLDER OUTPUT_FOLDER

Training set, in the format of Conceptual Captions 3M as CLIP-rocket reads it: `train.npy`, a pickled object
array of dicts `image_id` (path below `train/`) and `captions` (list), with the drawings of three vendors, base
emoji and their skin tones.

Evaluation set, one folder per class: `eval/emoji/test/<class>/<vendor>.png` with the drawings of the fourth
vendor, base emoji only, and `eval/emoji/classes.json`, the folders in the order of `labels.json`.
"""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN_VENDORS = ["apple", "facebook", "google"]
# The flattest style of the four, and one that has drawn every emoji.
HELD_OUT_VENDOR = "twitter"
CELL = 32
BORDER = 1
TONES = {
    "1F3FB": "light",
    "1F3FC": "medium-light",
    "1F3FD": "medium",
    "1F3FE": "medium-dark",
    "1F3FF": "dark",
}


def plain(text):
    """Words as a person would write them: `flag-eg` and `WHITE_FROWNING FACE` lose their dashes and capitals."""
    return " ".join(text.replace("_", " ").replace("-", " ").lower().split())


def class_names(emoji):
    """One name per base emoji, all different: a name that two emoji share gets its short name as well."""
    shared = {name for name, count in Counter(plain(e["name"]) for e in emoji).items() if count > 1}
    names = []
    for e in emoji:
        name = plain(e["name"])
        names.append(f"{name}, {plain(e['short_name'])}" if name in shared else name)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        sys.exit(f"error: these class names are not unique: {', '.join(repeated)}")
    return names


def captions(name, e, tone=None):
    """Several captions of one drawing, from its names and its category."""
    suffix = f" with {tone} skin tone" if tone else ""
    kind = plain(e["subcategory"].replace("&", "and"))
    found = [name, f"a drawing of {name}", f"{name}, {kind}"]
    found += [short for short in map(plain, e["short_names"]) if short != name]
    return [caption + suffix for caption in dict.fromkeys(found)]


def tone_words(key):
    """`1F3FB-1F3FD` is two people: `light and medium`; the same tone twice is said once."""
    return " and ".join(dict.fromkeys(TONES[part] for part in key.split("-")))


def opaque_sheet(path):
    """The sheet on white: what is transparent would otherwise be black in a file without alpha."""
    sheet = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", sheet.size, "white")
    white.alpha_composite(sheet)
    return white.convert("RGB")


def cut(sheet, e):
    """The cell of one drawing."""
    x, y = (e[axis] * (CELL + 2 * BORDER) + BORDER for axis in ("sheet_x", "sheet_y"))
    return sheet.crop((x, y, x + CELL, y + CELL))


def training_set(emoji, names, package, out):
    """Writes `train/` and `train.npy`; returns the number of drawings."""
    samples = []
    for vendor in TRAIN_VENDORS:
        sheet = opaque_sheet(package / "img" / vendor / "sheets" / f"{CELL}.png")
        folder = out / "train" / vendor
        folder.mkdir(parents=True)
        for e, name in zip(emoji, names):
            drawings = [(e, None)]
            drawings += [(tone, tone_words(key)) for key, tone in e.get("skin_variations", {}).items()]
            for drawing, tone in drawings:
                if drawing[f"has_img_{vendor}"]:
                    cut(sheet, drawing).save(folder / drawing["image"])
                    samples.append({
                        "image_id": f"{vendor}/{drawing['image']}",
                        "captions": captions(name, e, tone),
                    })
    array = np.empty(len(samples), dtype=object)
    array[:] = samples
    np.save(out / "train.npy", array, allow_pickle=True)
    return len(samples)


def evaluation_set(emoji, names, package, out):
    """Writes `eval/`; returns the class names."""
    sheet = opaque_sheet(package / "img" / HELD_OUT_VENDOR / "sheets" / f"{CELL}.png")
    labels, folders = [], []
    for e, name in zip(emoji, names):
        if e[f"has_img_{HELD_OUT_VENDOR}"]:
            folder = Path(e["image"]).stem
            target = out / "eval" / "emoji" / "test" / folder
            target.mkdir(parents=True)
            cut(sheet, e).save(target / f"{HELD_OUT_VENDOR}.png")
            labels.append(name)
            folders.append(folder)
    # Which folder each label belongs to, said and not left to sorting.
    write_json(out / "eval" / "emoji" / "classes.json", folders)
    return labels


def write_json(path, content):
    """One value a line, so that a difference is readable."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_labels(labels):
    """The class names are part of the experiment, so they are tracked beside this file: they must be these."""
    tracked = Path(__file__).with_name("labels.json")
    if "--write-labels" in sys.argv:
        write_json(tracked, {"emoji": labels})
    if json.loads(tracked.read_text(encoding="utf-8")) != {"emoji": labels}:
        sys.exit(
            f"error: the class names of this emoji-datasource differ from {tracked}; "
            "use the version that scripts/demo.sh names, or run this with --write-labels"
        )


def main():
    """Writes everything aside and renames it, so that an interrupted run leaves nothing half done."""
    package, out = Path(sys.argv[1]), Path(sys.argv[2])
    emoji = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    names = class_names(emoji)
    aside = out.with_name(out.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    drawings = training_set(emoji, names, package, aside)
    labels = evaluation_set(emoji, names, package, aside)
    check_labels(labels)
    shutil.rmtree(out, ignore_errors=True)
    aside.rename(out)
    print(
        f"prepared {drawings} drawings by {', '.join(TRAIN_VENDORS)} to train on and "
        f"{len(labels)} by {HELD_OUT_VENDOR}, one per class, to score"
    )


if __name__ == "__main__":
    main()
