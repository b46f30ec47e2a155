"""CLIP's tokenizer in Python (that of open_clip, made as the original's), on one thread.

    python tokenizer.py CAPTIONS --rounds N

Prints {"captions_per_second": the median of the rounds, "sum": of all tokens}.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer


def main():
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("captions", type=Path)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()
    captions = args.captions.read_text(encoding="utf-8").splitlines()
    tokenizer = SimpleTokenizer()
    rates = []
    for _ in range(args.rounds):
        begin = time.perf_counter()
        rows = [tokenizer(caption) for caption in captions]
        rates.append(len(captions) / (time.perf_counter() - begin))
    total = sum(int(row.sum()) for row in rows)
    print(json.dumps({"captions_per_second": statistics.median(rates), "sum": total}))


if __name__ == "__main__":
    main()
