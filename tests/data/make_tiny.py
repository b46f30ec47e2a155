#!/usr/bin/env python3
"""Cuts a small training set in the cc3m format, and an imagefolder set, out of two photographs.

    make_tiny.py PHOTO_A PHOTO_B OUT

PHOTO_A and PHOTO_B: `rgb420.jpg` and `rgb444_portrait.jpg` of the image goldens, which derive from
scikit-learn's sample images (see README.md beside this file). Needs numpy and Pillow.
"""
import json
import os
import sys

import numpy as np
from PIL import Image

COLUMNS, ROWS, SIDE = 8, 5, 48
PLACES = ["top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom"]


def main(photo_a, photo_b, out):
    rows = []
    os.makedirs(os.path.join(out, "images"), exist_ok=True)
    for kind, path in [("building", photo_a), ("flower", photo_b)]:
        photo = Image.open(path).convert("RGB")
        width, height = photo.size
        folder = os.path.join(out, "eval", "val", kind)
        os.makedirs(folder, exist_ok=True)
        for index in range(COLUMNS * ROWS):
            x = (index % COLUMNS) * (width - SIDE) // (COLUMNS - 1)
            y = (index // COLUMNS) * (height - SIDE) // (ROWS - 1)
            cut = photo.crop((x, y, x + SIDE, y + SIDE))
            name = f"{kind}_{index:02d}.jpg"
            if index % 10 == 9:
                cut.save(os.path.join(folder, name), quality=85)
                continue
            cut.save(os.path.join(out, "images", name), quality=85)
            place = PLACES[index % COLUMNS]
            rows.append({
                "image_id": name,
                "captions": [f"a detail of the {kind} at the {place}", f"part {index} of a photo of a {kind}"],
            })
    np.save(os.path.join(out, "train.npy"), np.array(rows, dtype=object), allow_pickle=True)
    for name, value in [
        ("labels.json", {"tiny": ["building", "flower"]}),
        ("templates.json", {"tiny": ["a photo of a {}.", "a detail of a {}."]}),
    ]:
        with open(os.path.join(out, name), "w") as file:
            json.dump(value, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
