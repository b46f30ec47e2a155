"""A training step of a CL2L experiment in plain PyTorch, in the way the Python original does it.

    python step.py EXPERIMENT.yaml --batches FILE.safetensors (--steps N --warmup N | --paced) --threads T [--part text]
        [--fused]

Towers, projectors and losses follow arXiv 2305.08675: timm's R50 or ViT, or a ViT of free dimensions; a causal text
transformer with QuickGELU on all places of the context, whose attention is torch.nn.MultiheadAttention; CLIP and l2l
heads; and the CL2L loss. Attention of the vision tower is scaled_dot_product_attention, gradients are set to None, and
AdamW is made as the original makes it, or fused with `--fused`. With `checkpoint_grad` the vision tower recomputes its
blocks, as the original's does. Prints
{"median_seconds": ..., "peak_bytes": ...} of N steps after a warm-up, or `--paced` makes one step for each line of stdin
and prints {"seconds": ..., "peak_bytes": ...} of it.
"""

import argparse
import json
import math
import resource
import statistics
import sys
import time
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file
from torch import nn

# Towers by the part of a model's name: timm's name and the width of the feature.
NAMED = {
    "R50": ("resnet50", 2048),
    "VITS16": ("vit_small_patch16_224", 384),
    "VITS32": ("vit_small_patch32_224", 384),
    "VITB16": ("vit_base_patch16_224", 768),
    "VITB32": ("vit_base_patch32_224", 768),
}


class ImageBlock(nn.Module):
    """Pre-norm block of the ViT."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        """[N, L, D] to the same."""
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width)
        x = x + self.proj(attended)
        return x + self.mlp(self.norm2(x))


class QuickGELU(nn.Module):
    """CLIP's activation."""

    def forward(self, x):
        """Any shape."""
        return x * torch.sigmoid(1.702 * x)


class TextBlock(nn.Module):
    """Pre-norm block of the text tower, [L, N, D]."""

    def __init__(self, width, heads, mask):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width))
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        """[L, N, D] to the same."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False, attn_mask=self.mask)[0]
        return x + self.mlp(self.norm2(x))


def head(kind, width, hidden, out):
    """Projector: linear without bias, or the three-layer MLP."""
    if kind == "linear":
        return nn.Linear(width, out, bias=False)
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
    )


class FreeViT(nn.Module):
    """ViT of free dimensions; the feature is the class token."""

    def __init__(self, dims):
        super().__init__()
        places = (dims["image_size"] // dims["patch"]) ** 2
        self.patches = nn.Conv2d(3, dims["width"], dims["patch"], dims["patch"])
        self.class_token = nn.Parameter(torch.randn(1, 1, dims["width"]) * 1e-6)
        self.places = nn.Parameter(torch.randn(1, places + 1, dims["width"]) * 0.02)
        self.blocks = nn.Sequential(*(ImageBlock(dims["width"], dims["heads"]) for _ in range(dims["depth"])))
        self.norm = nn.LayerNorm(dims["width"], eps=1e-6)

    def forward(self, x):
        """[N, 3, H, W] to [N, D]."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.places
        return self.norm(self.blocks(x))[:, 0]


class CL2L(nn.Module):
    """The model of an experiment's `model:` section."""

    def __init__(self, spec, checkpoint):
        super().__init__()
        width = spec.get("transformer_width", 512)
        if "name" in spec:
            name, image_width = NAMED[spec["name"].split("_")[1]]
            self.image = timm.create_model(name, num_classes=0)
            self.image.set_grad_checkpointing(checkpoint)
        else:
            self.image, image_width = FreeViT(spec["vision"]), spec["vision"]["width"]

        context = spec.get("context_length", 77)
        mask = torch.full((context, context), float("-inf")).triu(1)
        self.tokens = nn.Embedding(spec.get("vocab_size", 49408), width)
        self.text_places = nn.Parameter(torch.randn(context, width) * 0.01)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.text_blocks = nn.Sequential(
            *(
                TextBlock(width, spec.get("transformer_heads", 8), mask)
                for _ in range(spec.get("transformer_layers", 12))
            )
        )
        self.text_norm = nn.LayerNorm(width)

        out, hidden = spec.get("embed_dim", 256), spec.get("clip_hidden_dim", 4096)
        kind = spec.get("clip_proj_type", "linear")
        self.image_head = head(kind, image_width, hidden, out)
        self.text_head = head(kind, width, hidden, out)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.separate = spec.get("separate_proj", False)
        if self.separate:
            self.local_image_head = head(spec.get("cl2l_img_proj_type", "mlp"), image_width, 4096, out)
            self.local_text_head = head(spec.get("cl2l_txt_proj_type", "mlp"), width, 4096, out)
            self.local_scale = nn.Parameter(torch.tensor(math.log(1 / 0.1)))

    def text(self, tokens):
        """[N, L] to [N, D]."""
        x = (self.tokens(tokens) + self.text_places).permute(1, 0, 2)
        x = self.text_norm(self.text_blocks(x).permute(1, 0, 2))
        return x[torch.arange(len(x)), tokens.argmax(-1)]

    def forward(self, image, tokens, locals_):
        """The CL2L loss of a batch; tokens are [B, V, L]."""
        first, *rest = tokens.unbind(1)
        image_loss, text_loss = contrast(self.image_head(self.image(image)), self.text_head(self.text(first)), self.scale)
        heads = (self.image_head, self.text_head, self.scale)
        if self.separate:
            heads = (self.local_image_head, self.local_text_head, self.local_scale)
        images = [heads[0](self.image(view)) for view in locals_]
        texts = [heads[1](self.text(view)) for view in rest]
        pairs = [contrast(i, t, heads[2]) for i in images for t in texts]
        if pairs:
            count = len(images)
            image_loss = (image_loss + count * sum(pair[0] for pair in pairs) / len(pairs)) / (1 + count)
            text_loss = (text_loss + count * sum(pair[1] for pair in pairs) / len(pairs)) / (1 + count)
        return (image_loss + text_loss) / 2


def contrast(images, texts, scale):
    """Cross-entropies image to text and text to image."""
    images, texts = F.normalize(images), F.normalize(texts)
    labels = torch.arange(len(images))
    scale = scale.exp()
    return (
        F.cross_entropy(scale * images @ texts.t(), labels),
        F.cross_entropy(scale * texts @ images.t(), labels),
    )


def batches(path):
    """What `rocket-worker bench step --dump-batch` wrote: (weak view, tokens [B, V, L], strong views) of each batch."""
    tensors = load_file(path)
    for number in range(len([name for name in tensors if name.endswith(".tokens")])):
        views = sorted(name for name in tensors if name.startswith(f"{number}.image_local_"))
        yield tensors[f"{number}.image_global"], tensors[f"{number}.tokens"], [tensors[view] for view in views]


def text_loss(model, tokens):
    """Something to run backward from where only the text tower is measured; every caption goes through it."""
    return sum(model.text(view).square().sum() for view in tokens.unbind(1))


def main():
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--batches", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--paced", action="store_true")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--fused", action="store_true")
    parser.add_argument("--part", choices=["step", "text"], default="step")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    experiment = yaml.safe_load(args.experiment.read_text(encoding="utf-8"))
    model = CL2L(experiment["model"], experiment["train"].get("checkpoint_grad", False)).train()
    optim = experiment["optim"]
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": optim.get("wd", 0.1)}, {"params": rest, "weight_decay": 0.0}],
        lr=float(optim.get("lr", 3e-3)),
        betas=(0.9, 0.98),
        **({"fused": True} if args.fused else {}),
    )
    given = list(batches(args.batches))

    def step(number):
        """Seconds of a step."""
        image, tokens, locals_ = given[number % len(given)]
        begin = time.perf_counter()
        loss = model(image, tokens, locals_) if args.part == "step" else text_loss(model, tokens)
        if not math.isfinite(loss.item()):
            raise SystemExit("error: the loss is not finite")
        loss.backward()
        if args.part == "step":
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            model.scale.clamp_(0, 4.6052)
            if model.separate:
                model.local_scale.clamp_(0, 4.6052)
        return time.perf_counter() - begin

    if args.paced:
        for number, _ in enumerate(sys.stdin):
            print(json.dumps({"seconds": step(number), "peak_bytes": peak_bytes()}), flush=True)
        return
    times = [step(number) for number in range(args.warmup + args.steps)]
    print(json.dumps({"median_seconds": statistics.median(times[args.warmup :]), "peak_bytes": peak_bytes()}))


def peak_bytes():
    """Most resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
