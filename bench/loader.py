"""The data loader and the tokenizer against Python's.

Both sides take the same files on the same two cores in turn: 500 JPEGs of 500 x 375 pixels, about 65 KB each, as files
and as one archive in YFCC15M's way. They are made from photos of scikit-image's wheel: astronaut (NASA, public domain),
chelsea, coffee and rocket (CC0).
"""

import io
import json
import math
import os
import pickle
import random
import shutil
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from step import ROOT, ROUNDS, WORKER, measured

PACKAGE = "scikit-image==0.25.2"
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
FOLDER = ROOT / ".build/bench/photos"
COUNT, WIDTH, HEIGHT = 500, 500, 375
BYTES = 65_000
WORKERS = 2
SAMPLES = int(os.environ.get("SAMPLES", "1280"))
WORDNET = Path(os.environ.get("WNSEARCHDIR", "/usr/share/wordnet"))
# Groups of WordNet's senses; NLTK wants a list of their names, which Debian's package leaves out.
GROUPS = 45
NOUNS = "dog cat woman rocket cup table street bridge harbour mountain garden portrait astronaut flag kitchen".split()
OTHERS = "red old small wooden bright quiet two many young broken famous wet".split()
VERBS = "stands sits is waiting looks lies was photographed goes runs can't be seen isn't moving".split()
PLACES = "Paris, on the beach|at night|in the U.S. capital|near St. Mary's church|in 2009 &amp; later|by the sea".split("|")


def sources():
    """The package's photos, without what the package depends on."""
    folder = FOLDER / "package"
    if not (folder / "skimage/data" / PHOTOS[-1]).exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "--target", str(folder), PACKAGE], check=True)
    return [Image.open(folder / "skimage/data" / name).convert("RGB") for name in PHOTOS]


def photo(draw, source):
    """A part of a photo, a little brighter or darker, in JPEG of about the wanted size."""
    width, height = source.size
    share = draw.uniform(0.6, 1.0)
    w = min(width, height * WIDTH / HEIGHT) * share
    h = w * HEIGHT / WIDTH
    left, top = draw.uniform(0, width - w), draw.uniform(0, height - h)
    part = source.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, (left, top, left + w, top + h))
    part = ImageEnhance.Brightness(part).enhance(draw.uniform(0.8, 1.2))
    best = b""
    for quality in range(70, 99, 2):
        file = io.BytesIO()
        part.save(file, "JPEG", quality=quality)
        if best and abs(len(best) - BYTES) < abs(file.tell() - BYTES):
            break
        best = file.getvalue()
    return best


def caption(draw):
    """A sentence or two with a median of nine words, as CC3M's captions have (Sharma et al., ACL 2018)."""
    count = min(40, max(3, round(draw.lognormvariate(math.log(9), 0.45))))
    words = []
    while len(words) < count:
        words += ["the", draw.choice(OTHERS), draw.choice(NOUNS), draw.choice(VERBS), "and", "a", draw.choice(NOUNS)]
    place = draw.choice(PLACES)
    return " ".join([*words[: max(1, count - len(place.split()))], place])


def prepare():
    """Makes the photos and their lists once, always the same, and says what they are."""
    done = FOLDER / "captions.txt"
    if not done.exists():
        draw = random.Random(0)
        photos = sources()
        (FOLDER / "files").mkdir(parents=True, exist_ok=True)
        (FOLDER / "zips/images/00").mkdir(parents=True, exist_ok=True)
        samples, tuples = [], []
        with zipfile.ZipFile(FOLDER / "zips/images/00/000.zip", "w", zipfile.ZIP_STORED) as archive:
            for number in range(COUNT):
                data = photo(draw, photos[number % len(photos)])
                name = f"{number:03}.jpg"
                (FOLDER / "files" / name).write_bytes(data)
                archive.writestr(name, data)
                texts = [caption(draw), caption(draw)]
                samples.append({"image_id": name, "captions": texts})
                tuples.append((number, *texts))
        np.save(FOLDER / "files.npy", np.array(samples, dtype=object))
        with open(FOLDER / "zips.pkl", "wb") as file:
            pickle.dump(tuples, file)
        lines = [text for sample in samples for text in sample["captions"]]
        # Last: it says that the rest is whole.
        done.write_text("\n".join(lines), encoding="utf-8")
    sizes = [file.stat().st_size for file in (FOLDER / "files").iterdir()]
    words = statistics.mean(len(line.split()) for line in done.read_text(encoding="utf-8").splitlines())
    print(
        f"photos: {len(sizes)} of {WIDTH} x {HEIGHT} from {PACKAGE} ({', '.join(PHOTOS)}), "
        f"{statistics.mean(sizes) / 1000:.1f} KB on average; captions of {words:.1f} words on average",
        flush=True,
    )


def wordnet_for_nltk():
    """A folder with WordNet where NLTK looks for it; nothing if there is none."""
    if not (WORDNET / "index.noun").exists():
        print(f"WordNet is not in {WORDNET}: neither side replaces words by synonyms", flush=True)
        return None
    folder = FOLDER / "nltk_data/corpora/wordnet"
    folder.mkdir(parents=True, exist_ok=True)
    for file in WORDNET.iterdir():
        # Copies: NLTK follows no link out of a folder.
        if file.is_file() and not (folder / file.name).exists():
            shutil.copy(file, folder)
    # What Debian leaves out, and is not used here.
    (folder / "index.sense").touch()
    (folder / "lexnames").write_text("".join(f"{number:02}\tgroup.{number}\t1\n" for number in range(GROUPS)))
    return FOLDER / "nltk_data"


def experiment(kind):
    """The same for both sides; the peer's part repeats the defaults of ours."""
    wordnet = wordnet_for_nltk()
    data = {
        "files": {"dataset": "cc3m", "root": FOLDER / "files", "metadata": FOLDER / "files.npy"},
        "zip": {"dataset": "yfcc15m", "root": FOLDER / "zips", "metadata": FOLDER / "zips.pkl"},
    }[kind]
    data = {key: str(value) for key, value in data.items()}
    text = {"clean_before_augment": True, "text_augment": True}
    if not wordnet:
        text["synonym_replacement_prob"] = 0
    made = {
        "name": "bench",
        "model": {"name": "CL2L_R50_CL2L", "separate_proj": True},
        "data": {**data, "workers": WORKERS},
        "augment": {"weak_min_scale": 0.5, "multicrop_max_scale": 1.0},
        "text": text,
        "train": {"batch_size": 64},
    }
    path = ROOT / f".build/bench/loader-{kind}.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(made, indent=1), encoding="utf-8")
    peer = path.with_suffix(".peer.json")
    augment = {**made["augment"], "size": 224}
    peer.write_text(json.dumps({"train": made["train"], "peer": {"data": data, "augment": augment}}), encoding="utf-8")
    return path, peer, wordnet


def report(name, unit, ours, peer):
    """One line of result from the rates of all rounds."""
    a, b = statistics.median(ours), statistics.median(peer)
    print(f"bench {name} ours {a:.1f} {unit} peer {b:.1f} {unit} ratio {a / b:.3f}", flush=True)


def loader(kind):
    """The whole way of the samples of a CL2L experiment, round by round in turn, and decoding alone."""
    prepare()
    path, peer, wordnet = experiment(kind)
    ours = [WORKER, "bench", "loader", path, "--samples", SAMPLES]
    theirs = [sys.executable, ROOT / "bench/peer/loader.py", peer, "--samples", SAMPLES // 4, "--workers", WORKERS]
    theirs += ["--wordnet", wordnet] if wordnet else []
    # Once before: files come from the page cache for both.
    decoded = [measured([*ours, "--decode-only"])]
    rates = [], []
    for _ in range(ROUNDS):
        for side, command in zip(rates, (ours, theirs)):
            side.append(measured(command)["samples_per_second"])
        decoded.append(measured([*ours, "--decode-only"]))
    report(f"loader-{kind}", "samples/s", *rates)
    alone = statistics.median(one["samples_per_second"] for one in decoded[1:])
    simd = "with" if decoded[0]["jpeg_is_vectorised"] else "WITHOUT"
    print(
        f"  decoding alone {alone:.1f} samples/s on the same {WORKERS} threads ({simd} libjpeg's assembly): "
        f"the whole loader has {100 * statistics.median(rates[0]) / alone:.0f} % of it",
        flush=True,
    )


def tokenizer():
    """Captions to tokens on one thread; both must come to the same ones."""
    prepare()
    captions = FOLDER / "captions.txt"
    rates, sums = ([], []), set()
    for _ in range(ROUNDS):
        ours = measured([WORKER, "bench", "tokenizer", captions, "--rounds", 10])
        peer = measured([sys.executable, ROOT / "bench/peer/tokenizer.py", captions, "--rounds", 3])
        for side, result in zip(rates, (ours, peer)):
            side.append(result["captions_per_second"])
            sums.add(result["sum"])
    if len(sums) != 1:
        sys.exit(f"error: the tokens differ: their sums are {sorted(sums)}")
    report("tokenizer", "captions/s", *rates)


BENCHMARKS = {
    "loader-files": lambda: loader("files"),
    "loader-zip": lambda: loader("zip"),
    "tokenizer": tokenizer,
}
