"""The demo, from a clean checkout to a score: submit, interrupt in the middle, wait, score, print.

Started by scripts/demo.sh, which prepares the data. Everything it knows of the run it asks `rocket`, as a user
would; nothing of the result is assumed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
ROCKET = TARGET / "rocket"
WORKER = TARGET / "rocket-worker"
EXPERIMENT = "jobs/demo.yaml"
DATASET = "emoji"


def say(text):
    """A line of what is going on."""
    print(f"demo: {text}", flush=True)


def fail(text):
    """Ends the demo with a sentence."""
    sys.exit(f"error: {text}")


def rocket(*args):
    """Runs `rocket`, returns what it printed; its own words and exit code end the demo if it fails."""
    done = subprocess.run([ROCKET, *args], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def status(run):
    """What `rocket status` says of a run; None while it does not know it yet."""
    done = subprocess.run([ROCKET, "status", run, "--json"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return None
    answer = json.loads(done.stdout)
    return answer[0] if isinstance(answer, list) else answer


def changed_files():
    """Tracked files that differ from the commit."""
    lines = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    return [line[3:] for line in lines]


class Watcher(threading.Thread):
    """Looks at the run while it trains: sends the stop signal in the middle, and keeps an eye on memory."""

    def __init__(self, run):
        super().__init__(daemon=True)
        self.run_id = run
        self.interrupted_at = None
        # (step, bytes by rank)
        self.memory = []
        self.done = threading.Event()

    def run(self):
        """Until told that the run is over."""
        while not self.done.wait(0.5):
            now = status(self.run_id)
            if not now:
                continue
            if now["resident_bytes"] and now["step"]:
                self.memory.append((now["step"], now["resident_bytes"]))
            total = now["total_steps"] or 0
            in_the_middle = now["status"] == "running" and now["supervisor"] and 0 < total <= 2 * now["step"]
            if in_the_middle and self.interrupted_at is None and not now["resumptions"]:
                pid = now["supervisor"]["pid"]
                self.interrupted_at = now["step"]
                say(f"half of the steps are done: sending SIGTERM to the supervisor (process {pid})")
                os.kill(pid, signal.SIGTERM)

    def stop(self):
        """Ends the watch."""
        self.done.set()
        self.join()


def next_id(submit):
    """The id that a submit of the experiment at this commit would get, were it submitted once more."""
    plan = rocket("submit", *submit, "--dry-run", *([] if "--again" in submit else ["--again"]))
    return re.search(r"^run +(\S+)", plan, re.MULTILINE)[1]


def newest_run(submit):
    """Id and status of the newest run of the experiment at this commit; no status if there is none."""
    following = next_id(submit)
    numbered = re.fullmatch(r"(.+-[0-9a-f]{8})-(\d+)", following)
    if not numbered:
        return following, None
    first, number = numbered[1], int(numbered[2]) - 1
    newest = f"{first}-{number}" if number > 1 else first
    return newest, status(newest)


def train():
    """Submits the experiment, or takes up a run of the very same one; returns the finished run's status."""
    submit = [EXPERIMENT]
    changed = changed_files()
    if changed:
        say(f"{len(changed)} tracked file(s) are changed ({', '.join(changed[:3])}...): pinning them with --snapshot")
        submit.append("--snapshot")
    run, before = newest_run(submit)
    if before and os.environ.get("FRESH") == "1":
        submit.append("--again")
        run, before = next_id(submit), None
    if before and before["status"] == "finished":
        say(f"run {run} of this experiment and commit is finished already; FRESH=1 trains again")
        return before, json.loads(memory_file(run).read_text()) if memory_file(run).exists() else []
    if before and before["supervisor"]:
        say(f"run {run} of this experiment and commit is under way: following it")
        follow = ["logs", run, "--follow"]
    elif before:
        say(f"run {run} of this experiment and commit is {before['status']}: resuming it")
        follow = ["resume", run, "--follow"]
    else:
        follow = ["submit", *submit, "--follow"]
    watcher = Watcher(run)
    watcher.start()
    code = subprocess.run([ROCKET, *follow], cwd=ROOT).returncode
    watcher.stop()
    if code:
        sys.exit(code)
    after = status(run)
    if not after or after["status"] != "finished":
        fail(f"run {run} did not finish; see: rocket status {run}")
    if watcher.interrupted_at:
        say(
            f"the run was interrupted after step {watcher.interrupted_at}, saved its state, "
            f"and resumed by itself {after['resumptions']} time(s)"
        )
    memory_file(run).write_text(json.dumps(watcher.memory))
    return after, watcher.memory


def memory_file(run):
    """What was seen of a run's memory, kept for when its result is printed again."""
    return ROOT / ".build/demo" / f"memory-{run}.json"


def mib(amount):
    """Bytes in words."""
    return f"{amount / 2**20:.0f} MiB"


def print_memory(memory):
    """Resident memory of each rank: the most, and whether it grows in the second half of what was seen."""
    for rank in range(len(memory[-1][1]) if memory else 0):
        seen = [(step, sizes[rank]) for step, sizes in memory if len(sizes) > rank]
        last = seen[-1][0]
        middle = max((size for step, size in seen if last / 2 < step <= 0.75 * last), default=seen[-1][1])
        end = max(size for step, size in seen if step > 0.75 * last)
        print(
            f"rank {rank}: peak {mib(max(size for _, size in seen))} resident; "
            f"{mib(middle)} in the third quarter of the steps, {mib(end)} in the last"
        )


def score(run):
    """Scores the finished run on the vendor that it never saw; returns the result's JSON."""
    say("scoring the drawings of the fourth vendor, over all base emoji as classes")
    # The last checkpoint, not the best: choosing by these very scores would flatter them.
    command = [WORKER, "eval", "--run", run["dir"], "--datasets", DATASET, "--checkpoint", "last", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        sys.exit(done.returncode)
    return json.loads(done.stdout)[0]


def main():
    """See the module."""
    if sys.stdout.isatty():
        sys.stdout.reconfigure(line_buffering=True)
    started = time.monotonic()
    run, memory = train()
    result = score(run)
    plot = Path(run["dir"], "curves.png")
    rocket("plot", run["run"], "--output", str(plot))

    print(f"\n{'head':<8} {'top-1 %':>8} {'top-5 %':>8}   ({result['samples']} images, {result['classes']} classes)")
    for head in result["heads"]:
        print(f"{head['head']:<8} {head['top1']:8.2f} {head['top5']:8.2f}")
    print(f"{'chance':<8} {result['chance']:8.3f} {500 / result['classes']:8.3f}\n")
    print_memory(memory)
    print(f"curves: {plot}")
    print(f"this took {time.monotonic() - started:.0f} s")
    z = next(head for head in result["heads"] if head["head"] == "z")
    print(
        f"demo: top-1 {z['top1']:.2f} % top-5 {z['top5']:.2f} % chance {result['chance']:.3f} % "
        f"classes {result['classes']} resumed {run['resumptions']} run {run['dir']}"
    )


if __name__ == "__main__":
    main()
