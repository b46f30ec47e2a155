"""Writes worker/src/eval/published/{labels,templates}.json: names and prompts of the paper's 23 evaluation sets.

    python tools/zeroshot_names.py            fetch the pinned wheel with pip, and write both files
    python tools/zeroshot_names.py --check    compare them instead; exit 1 if they differ
    python tools/zeroshot_names.py --wheel F  take this wheel

What a set's entry in facts.json names with "package" is taken from the wheel clip-benchmark (MIT); the rest is
written out there. The results are committed, so that nothing is fetched where experiments run.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "clip-benchmark==1.6.2"
SHA256 = "6fbfd39b454a036a628b7e227b3d4050015009afe418583f21f27886c74e4998"
FOLDER = pathlib.Path(__file__).parent.parent / "worker/src/eval/published"


def fetch(folder):
    """The pinned wheel, downloaded into `folder`."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE],
        check=True,
    )
    (wheel,) = pathlib.Path(folder).glob("*.whl")
    return wheel


def read(wheel):
    """Names and prompts by the package's own names of the sets."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"error: {wheel} is not the file that {PACKAGE} was when this list was made (SHA-256 {found})")
    with zipfile.ZipFile(wheel) as archive:
        load = lambda name: json.loads(archive.read(f"clip_benchmark/datasets/{name}.json"))
        return load("en_classnames"), load("en_zeroshot_classification_templates")


def main():
    parser = argparse.ArgumentParser(description="Names and prompts of the evaluation sets.")
    parser.add_argument("--check", action="store_true", help="compare the files with what would be written")
    parser.add_argument("--wheel", type=pathlib.Path, help=f"the wheel of {PACKAGE}, if it is there already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names, templates = read(arguments.wheel or fetch(folder))

    labels, texts = {}, {}
    for name, facts in json.loads((FOLDER / "facts.json").read_text()).items():
        own = facts["names"]
        labels[name] = names[own["package"]] if isinstance(own, dict) else own
        own = facts["prompts"]
        texts[name] = (
            [text.replace("{c}", "{}") for text in templates[own["package"]]] if isinstance(own, dict) else own
        )
    differ = []
    for file, value in (("labels.json", labels), ("templates.json", texts)):
        text = json.dumps(value, indent=0, ensure_ascii=False) + "\n"
        if not arguments.check:
            (FOLDER / file).write_text(text)
        elif (FOLDER / file).read_text() != text:
            differ.append(str(FOLDER / file))
    if differ:
        sys.exit(f"error: {' and '.join(differ)} differ from what this script writes; run it without --check")


if __name__ == "__main__":
    main()
