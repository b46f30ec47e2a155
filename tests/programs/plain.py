#!/usr/bin/env python3
"""A program that knows nothing of rocket but the variables of torchrun, and needs nothing but Python.

Its ranks meet at MASTER_ADDR:MASTER_PORT, and count. What they have counted outlives them in ROCKET_RUN_DIR.
SIGTERM has them leave as a program should: saved, with 143. After ten steps they wait for as long as there is a file
`hold` beside the run.
"""

import json
import os
import pathlib
import signal
import socket
import sys
import time

NAMES = "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE".split()
STEPS = 40


def meet(place):
    """Every rank tells rank 0 where it is; rank 0 tells all how many there are."""
    address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if place["RANK"] == 0:
        with socket.create_server(("", address[1])) as server:
            server.settimeout(60)
            peers = [server.accept()[0] for _ in range(place["WORLD_SIZE"] - 1)]
        ranks = [place["RANK"]]
        for peer in peers:
            with peer:
                ranks.append(json.loads(peer.recv(1 << 16))["RANK"])
        return sorted(ranks)
    for _ in range(600):
        try:
            with socket.create_connection(address, 60) as peer:
                peer.sendall(json.dumps(place).encode())
                return None
        except OSError:
            time.sleep(0.1)
    sys.exit("rank 0 does not answer")


def main():
    place = {name: int(os.environ[name]) for name in NAMES}
    run = pathlib.Path(os.environ["ROCKET_RUN_DIR"])
    state = run / f"state.{place['RANK']}.json"
    done = json.loads(state.read_text())["done"] if state.exists() else 0
    print("place", *(f"{name}={place[name]}" for name in NAMES), flush=True)
    met = meet(place)
    if met is not None:
        assert met == list(range(place["WORLD_SIZE"])), met
        print(f"met {len(met)} ranks", flush=True)
    print(f"from {done}", flush=True)
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    while done < STEPS:
        if stop:
            print(f"stopped at {done}", flush=True)
            sys.exit(143)
        done += 1
        draft = state.with_suffix(".tmp")
        draft.write_text(json.dumps({"done": done, "pid": os.getpid()}))
        draft.rename(state)
        while done >= 10 and (run.parent / "hold").exists() and not stop:
            time.sleep(0.02)
    print("done", flush=True)


main()
