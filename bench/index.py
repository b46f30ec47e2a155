"""The index of a data set: 15 million captions prepared, opened by many processes, and looked through.

    bench index-prepare ours <samples/s> samples/s
    bench index-first ours <s> s
    bench index-memory ours <copies> copies ...

There is no peer: the original holds the whole list in every process.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "rocket-worker"
SAMPLES = int(os.environ.get("SAMPLES", "15000000"))
PROCESSES = 8
BATCH = 1000
WORDS = (
    "a the of in on with and red blue old young man woman dog cat house street water night beach city mountain view from "
    "portrait sunset festival garden river bridge people photo during over light green white little"
).split()


def text(value):
    """BINUNICODE."""
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def caption(draw):
    """About as long as CC12M's (20 words) for a third of them, and as CC3M's (10) for the rest."""
    return " ".join(draw.choices(WORDS, k=draw.choice((7, 9, 11, 13, 18, 22))))


def memo(number):
    """Python remembers every object, and so does what it writes."""
    return b"r" + number.to_bytes(4, "little")


def write_pickle(path, captions):
    """What pickle.dump(samples, protocol=2) writes of tuples (id, title, description)."""
    with open(path, "wb") as file:
        file.write(b"\x80\x02]" + memo(0))
        number = 1
        for start in range(0, SAMPLES, BATCH):
            parts = [b"("]
            for sample in range(start, min(start + BATCH, SAMPLES)):
                words = captions[sample % len(captions)]
                parts.append(b"J" + (sample * 6).to_bytes(4, "little"))
                parts.append(text(words[: len(words) // 3]) + memo(number))
                parts.append(text(words) + memo(number + 1) + b"\x87" + memo(number + 2))
                number += 3
            parts.append(b"e")
            file.write(b"".join(parts))
        file.write(b".")


def write_npy(path, captions):
    """What numpy.save writes of dicts `image_id`, `captions`."""
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': ({SAMPLES},), }}"
    header += " " * (-(11 + len(header)) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
        file.write(b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n" + memo(0) + b"cnumpy\nndarray\n" + memo(1))
        file.write(b"K\x00\x85" + memo(2) + b"C\x01b" + memo(3) + b"\x87" + memo(4) + b"R" + memo(5))
        file.write(b"(K\x01J" + SAMPLES.to_bytes(4, "little") + b"\x85" + memo(6) + b"cnumpy\ndtype\n" + memo(7))
        file.write(text("O8") + memo(8) + b"\x89\x88\x87" + memo(9) + b"R" + memo(10) + b"(K\x03" + text("|") + memo(11))
        file.write(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft" + memo(12) + b"b\x89]" + memo(13))
        keys = (text("image_id") + memo(14), text("captions") + memo(15))
        number = 16
        for start in range(0, SAMPLES, BATCH):
            parts = [b"("]
            for sample in range(start, min(start + BATCH, SAMPLES)):
                name, captions_key = keys if sample == 0 else (b"h\x0e", b"h\x0f")
                parts.append(b"}" + memo(number) + b"(" + name + text(f"{sample:09}.jpg") + memo(number + 1) + captions_key)
                parts.append(b"]" + memo(number + 2) + text(captions[sample % len(captions)]) + memo(number + 3) + b"au")
                number += 4
            parts.append(b"e")
            file.write(b"".join(parts))
        file.write(b"t" + memo(number) + b"b.")


def worker(*command):
    """Runs the worker; what it prints last is its result."""
    done = subprocess.run([str(part) for part in (WORKER, *command)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: '{' '.join(map(str, command))}' ended with {done.returncode}; what it said is above")
    return done.stdout.splitlines()[-1]


def index():
    """Makes both lists, prepares them on one core, and measures the index of the npy file."""
    folder = ROOT / ".build/bench/index"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "root").mkdir(parents=True)
    draw = random.Random(0)
    captions = [caption(draw) for _ in range(100_003)]
    # An archive, so that not all of them are absent.
    (folder / "root/images/00").mkdir(parents=True)
    subprocess.run([sys.executable, "-c", ZIP, folder / "root/images/00/000.zip"], check=True)
    for dataset, name, write in (("cc3m", "list.npy", write_npy), ("yfcc15m", "list.pkl", write_pickle)):
        write(folder / name, captions)
        experiment = folder / f"{dataset}.json"
        data = {"dataset": dataset, "root": str(folder / "root"), "metadata": str(folder / name)}
        experiment.write_text(json.dumps({"name": "bench", "model": {"name": "CL2L_R50_CL2L"}, "data": data}))
        began = time.monotonic()
        said = worker("data", "prepare", experiment)
        seconds = time.monotonic() - began
        print(said, flush=True)
        size = (folder / name).stat().st_size
        print(f"bench index-prepare-{name[-3:]} ours {SAMPLES / seconds:.0f} samples/s ({size / 1e6:.0f} MB in {seconds:.1f} s)", flush=True)
        if dataset == "cc3m":
            measure(experiment)
        (folder / name).unlink()
    shutil.rmtree(folder)


ZIP = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w').writestr('000.jpg', b'x')"


def measure(experiment):
    """Opens the index in many processes at once."""
    said = json.loads(worker("bench", "index", experiment, "--processes", PROCESSES))
    print(json.dumps(said), flush=True)
    print(
        f"bench index-first ours {said['first_sample_seconds']:.3f} s (opening it {said['open_seconds']:.4f} s)\n"
        f"bench index-memory ours {said['pss_copies']:.3f} copies over {said['processes']} processes "
        f"({said['index_bytes'] / 1e6:.0f} MB each copy; opening adds {said['opening_private_bytes'] / 1e6:.2f} MB to a process, "
        f"looking at every sample {said['private_bytes'] / 1e6:.2f} MB)",
        flush=True,
    )
