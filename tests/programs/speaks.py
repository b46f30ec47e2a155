#!/usr/bin/env python3
"""A data-parallel trainer in Python's torch that speaks rocket's protocol (docs/programs.md): it says how far
it is, agrees with its peers on the step of a stop, resumes there to the bit, and says how it ended."""

import json
import os
import pathlib

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 60


def put(path, value):
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(json.dumps(value))
    draft.replace(path)


def batch(step, rank):
    """The same numbers at the same step, whatever was before."""
    noise = torch.Generator().manual_seed(1000 * step + rank)
    x = torch.randn(16, 8, generator=noise)
    return x, x.sum(1, keepdim=True).sin()


def main():
    torch.set_num_threads(1)
    run = pathlib.Path(os.environ["ROCKET_RUN_DIR"])
    attempt = run / "attempts" / f"{int(os.environ['ROCKET_ATTEMPT']):03}"
    # RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are all that it needs.
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(int(os.environ["ROCKET_SEED"]))
    model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=float(os.environ.get("LR", "1e-2")))
    saved = run / "state.pt"
    step = 0
    if saved.exists():
        state = torch.load(saved)
        model.module.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    print(f"rank {rank} of {world} goes on from step {step}", flush=True)

    beats = 0
    while step < STEPS:
        beats += 1
        put(
            attempt / f"ranks/{rank}.beat.json",
            {"beat": beats, "pid": os.getpid(), "phase": "training", "step": step, "total_steps": STEPS,
             "epoch": step / STEPS, "samples_per_second": 0.0, "resident_bytes": 0},
        )
        # One rank may see the request before the others: the step is agreed on by all of them.
        control = attempt / "control.json"
        asked = json.loads(control.read_text()).get("stop") if control.exists() else None
        stop = torch.tensor([1.0 if asked else 0.0])
        dist.all_reduce(stop, dist.ReduceOp.MAX)
        if stop.item() > 0:
            if rank == 0:
                draft = saved.with_suffix(".tmp")
                torch.save({"model": model.module.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, draft)
                draft.replace(saved)
            # Nobody leaves before all is saved.
            dist.barrier()
            end = {"outcome": "stopped", "kind": "ok", "step": step, "stop": asked or "preempted"}
            put(attempt / f"ranks/{rank}.end.json", end)
            print(f"stopped at step {step}", flush=True)
            return
        x, y = batch(step, rank)
        loss = nn.functional.mse_loss(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        mean = loss.detach() / world
        dist.all_reduce(mean)
        if rank == 0:
            with open(run / "metrics.jsonl", "a") as metrics:
                metrics.write(json.dumps({"kind": "train", "step": step, "loss": mean.item()}) + "\n")
        while step == 20 and (run.parent / "hold").exists() and not control.exists():
            pass
    put(attempt / f"ranks/{rank}.end.json", {"outcome": "finished", "kind": "ok", "step": step})
    dist.barrier()


main()
