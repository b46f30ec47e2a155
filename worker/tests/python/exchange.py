"""The other side of the exchange tests: Python's own torch, timm, safetensors and open_clip.

    exchange.py write DIR      a checkpoint as the original's training saves it, and what is in it
    exchange.py check DIR      loads what Rust wrote, and goes on training from it
    exchange.py open_clip DIR  embeds with the models that Rust converted
"""

import argparse
import json
import math
import sys
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

WIDTH, EMBED = 32, 16


def mlp(width, hidden, out):
    layers = OrderedDict()
    sizes = [width, hidden, hidden, out]
    for i in (1, 2, 3):
        layers[f"layer{i}"] = nn.Linear(sizes[i - 1], sizes[i])
        if i < 3:
            layers[f"bn{i}"] = nn.BatchNorm1d(sizes[i])
            layers[f"relu{i}"] = nn.ReLU()
    return nn.Sequential(layers)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, 2)
        self.ln_1 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(OrderedDict(c_fc=nn.Linear(WIDTH, 4 * WIDTH), c_proj=nn.Linear(4 * WIDTH, WIDTH)))
        self.ln_2 = nn.LayerNorm(WIDTH)


class Small(nn.Module):
    """The modules of CL2L with projectors of their own, in the order of the original. Only names, shapes
    and order count here: nothing is computed with it."""

    def __init__(self):
        super().__init__()
        self.visual = VisionTransformer(img_size=16, patch_size=8, embed_dim=WIDTH, depth=2, num_heads=2, num_classes=0)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(Block(), Block())
        self.token_embedding = nn.Embedding(49408, WIDTH)
        self.positional_embedding = nn.Parameter(torch.empty(77, WIDTH))
        self.ln_final = nn.LayerNorm(WIDTH)
        self.image_projector = mlp(WIDTH, 24, EMBED)
        self.text_projector = mlp(WIDTH, 24, EMBED)
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        self.l2l_logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.1))
        self.l2l_image_projector = nn.Linear(WIDTH, EMBED, bias=False)
        self.l2l_text_projector = nn.Linear(WIDTH, EMBED, bias=False)


class Wrapped(nn.Module):
    """Names as DistributedDataParallel makes them."""

    def __init__(self):
        super().__init__()
        self.module = Small()


def optimizer_of(model):
    """Two groups: what is decayed, and what is not (fewer than two axes, or a name with bias, ln or bn)."""
    plain = [p.ndim < 2 or any(part in n for part in ("bias", "ln", "bn")) for n, p in model.named_parameters()]
    groups = [
        {"params": [p for p, skip in zip(model.parameters(), plain) if not skip], "weight_decay": 0.1},
        {"params": [p for p, skip in zip(model.parameters(), plain) if skip], "weight_decay": 0},
    ]
    return torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1)


def truth(path, **parts):
    tensors = {f"{part}/{name}": tensor.detach().clone().contiguous() for part, all in parts.items() for name, tensor in all.items()}
    save_file(tensors, path)


def bare(state_dict):
    return {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}


def write(folder):
    torch.manual_seed(1)
    model, momentum = Wrapped(), Wrapped()
    for tensor in [*model.state_dict().values(), *momentum.state_dict().values()]:
        if tensor.is_floating_point():
            tensor.normal_()
        else:
            tensor.fill_(7)
    optimizer = optimizer_of(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=50)
    for _ in range(3):
        for name, parameter in model.named_parameters():
            # One that never had a gradient has no state.
            parameter.grad = None if name == "module.l2l_logit_scale" else torch.randn_like(parameter)
        scaler.scale(torch.zeros(()))
        optimizer.step()
        scaler.update(2048.0)
    args = argparse.Namespace(
        model="CL2L_VITB16_CL2L", separate_proj=True, betas=(0.9, 0.98), lr=3e-3, gpu=None, seed=0, distributed=True
    )
    torch.save(
        {
            "epoch": 5,
            "state_dict": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "best_acc1": numpy.float64(34.5),
            "args": args,
            "momentum_state_dict": momentum.state_dict(),
        },
        folder / "original.pt",
    )
    numbers = [p for group in optimizer.param_groups for p in group["params"]]
    names = {id(p): n.removeprefix("module.") for n, p in model.named_parameters()}
    moments = {f"{names[id(p)]}.{part}": value for p in numbers for part, value in optimizer.state.get(p, {}).items()}
    zero = model.module.l2l_logit_scale
    moments |= {f"l2l_logit_scale.{part}": torch.zeros_like(zero) for part in ("exp_avg", "exp_avg_sq", "step")}
    truth(folder / "original.safetensors", model=bare(model.state_dict()), momentum=bare(momentum.state_dict()), optim=moments)
    json.dump(scaler.state_dict(), open(folder / "scaler.json", "w"))

    base = torch.arange(24, dtype=torch.float32)
    views = OrderedDict(
        whole=base,
        transposed=base.view(4, 6).t(),
        part=base[5:9],
        every_other=base[1::2],
        row_of_columns=base.view(2, 3, 4)[1, :, ::2],
        repeated=base[:1].expand(3, 2),
        scalar=torch.tensor(2.5),
        empty=torch.empty(0, 3),
        parameter=nn.Parameter(torch.ones(2)),
        double=torch.randn(3, dtype=torch.float64),
        half=torch.randn(3).half(),
        bfloat16=torch.randn(3).bfloat16(),
        long=torch.tensor([-(2**40), 3]),
        int=torch.tensor([-5, 3], dtype=torch.int32),
        byte=torch.tensor([0, 255], dtype=torch.uint8),
        bool=torch.tensor([True, False, True]),
    )
    torch.save(views, folder / "views.pt")
    torch.serialization.set_crc32_options(False)
    torch.save(views, folder / "views_without_checksums.pt")
    torch.serialization.set_crc32_options(True)
    truth(folder / "views.safetensors", views=views)
    torch.save(defaultdict(list, state_dict={"x": base}), folder / "defaultdict.pt")
    torch.save({"x": base}, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(Small(), folder / "module.pt")
    torch.jit.script(nn.Linear(2, 2)).save(folder / "script.pt")


def check(folder):
    given = load_file(folder / "rust.safetensors")
    want = {name.removeprefix("model/"): tensor for name, tensor in given.items() if name.startswith("model/")}

    def same(found, what):
        assert list(found) == list(Small().state_dict()), f"{what}: other names or another order"
        for name, tensor in found.items():
            assert tensor.dtype == want[name].dtype and torch.equal(tensor, want[name]), f"{what}: {name}"

    same(torch.load(folder / "weights.pt", weights_only=True), "weights.pt")
    plain = load_file(folder / "weights.safetensors")
    Small().load_state_dict(plain)
    same(OrderedDict((name, plain[name]) for name in Small().state_dict()), "weights.safetensors")

    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
    mapped = torch.load(folder / "checkpoint.pt", weights_only=False, mmap=True)
    assert torch.equal(mapped["state_dict"]["module.logit_scale"], want["logit_scale"])
    assert list(checkpoint) == ["epoch", "state_dict", "optimizer", "scaler", "best_acc1", "args", "momentum_state_dict"]
    same(OrderedDict(bare(checkpoint["state_dict"])), "checkpoint.pt")
    same(OrderedDict(bare(checkpoint["momentum_state_dict"])), "momentum")
    assert checkpoint["epoch"] == 3 and checkpoint["best_acc1"] == 12.5
    args = checkpoint["args"]
    assert isinstance(args, argparse.Namespace) and args.separate_proj is True and args.batch_size == 64, args

    # What the original does with it.
    model = Wrapped()
    model.load_state_dict(checkpoint["state_dict"])
    optimizer = optimizer_of(model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    scaler = torch.amp.GradScaler("cpu")
    scaler.load_state_dict(checkpoint["scaler"])
    assert scaler.state_dict() == checkpoint["scaler"] and scaler.get_scale() == 512.0
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    for name, parameter in model.named_parameters():
        parameter.grad = given["grad/" + name.removeprefix("module.")]
    optimizer.step()
    truth(folder / "stepped.safetensors", model=bare(model.state_dict()))


def embed(folder):
    import open_clip

    given = load_file(folder / "inputs.safetensors")
    out = {}
    for path in sorted(folder.glob("open_clip_*")):
        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{path}")
        model.eval()
        assert [list(t.mean) for t in preprocess.transforms if hasattr(t, "mean")] == [[0.485, 0.456, 0.406]]
        with torch.no_grad():
            out[f"{path.name}/image"] = model.encode_image(given["images"])
            out[f"{path.name}/text"] = model.encode_text(given["tokens"])
            out[f"{path.name}/scale"] = model.logit_scale.exp()
    save_file(out, folder / "embedded.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(2)
    {"write": write, "check": check, "open_clip": embed}[sys.argv[1]](Path(sys.argv[2]))
