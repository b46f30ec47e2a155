"""A zero-shot evaluation in PyTorch, torchvision and Pillow, in the way the Python original does it.

    python eval.py EXPERIMENT.yaml --dump DIR --images FOLDER --labels NAMES.json --threads T --workers N --batch B

Class embeddings come class by class from the prompts of each, over all 77 places of the context; images from a
DataLoader with N workers that decodes with Pillow and resizes, crops and normalises with torchvision; both heads from
one pass of the image tower; top-1 of z, h and the nine mixtures. `--dump` is what `rocket-worker bench eval --dump`
wrote: weights under the original's names and the token rows of the prompts, which are given so that no side's
tokenizer is timed here. Prints {"images": ..., "seconds": ..., "top1": [...]} .
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from step import CL2L

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Folder(Dataset):
    """Images of class folders, the classes in the order of `names`."""

    def __init__(self, root, names, side):
        self.samples = [(path, label) for label, name in enumerate(names) for path in sorted((root / name).iterdir())]
        self.transform = transforms.Compose(
            [
                transforms.Resize(side),
                transforms.CenterCrop(side),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, label = self.samples[index]
        with open(path, "rb") as file:
            return self.transform(Image.open(file).convert("RGB")), label


def names_of(model, key):
    """The peer's name of a tensor of the original's state dict; None for what the forward pass does not need."""
    heads = {
        "image_projector": "image_head",
        "text_projector": "text_head",
        "l2l_image_projector": "local_image_head",
        "l2l_text_projector": "local_text_head",
    }
    layers = {"layer1": 0, "bn1": 1, "layer2": 3, "bn2": 4, "layer3": 6}
    first, _, rest = key.partition(".")
    if key in ("logit_scale", "l2l_logit_scale"):
        return {"logit_scale": "scale", "l2l_logit_scale": "local_scale"}[key]
    if first == "visual":
        return f"image.{rest}"
    if key == "positional_embedding":
        return "text_places"
    if first == "token_embedding":
        return "tokens.weight"
    if first == "ln_final":
        return f"text_norm.{rest}"
    if first in heads:
        part, _, leaf = rest.partition(".")
        return f"{heads[first]}.{layers[part]}.{leaf}" if part in layers else f"{heads[first]}.{rest}"
    if key.startswith("transformer.resblocks."):
        _, _, block, part, *leaf = key.split(".")
        inner = {"attn": "attention", "ln_1": "norm1", "ln_2": "norm2", "mlp": "mlp"}[part]
        leaf = [{"c_fc": "0", "c_proj": "2"}.get(name, name) for name in leaf]
        return f"text_blocks.{block}.{inner}.{'.'.join(leaf)}"
    raise SystemExit(f"error: what is '{key}'?")


def load(model, weights):
    """Puts the weights into the model; nothing may be left over on either side."""
    state = {names_of(model, key): value for key, value in weights.items()}
    model.load_state_dict(state, strict=True)


def classifier(model, prompts):
    """Class embeddings of both heads [C, D]."""
    z_all, h_all = [], []
    for tokens in torch.split(prompts["tokens"], prompts["counts"].tolist()):
        feats = model.text(tokens)
        for out, projected in ((z_all, model.text_head(feats)), (h_all, model.local_text_head(feats))):
            mean = F.normalize(projected, dim=-1).mean(0)
            out.append(F.normalize(mean, dim=0))
    return torch.stack(z_all), torch.stack(h_all)


@torch.no_grad()
def evaluate(model, prompts, loader):
    """Correct images by head: z, h, and mixtures of .1 to .9."""
    z_classes, h_classes = classifier(model, prompts)
    correct = [0] * 11
    for images, labels in loader:
        feats = model.image(images)
        z = F.normalize(model.image_head(feats), dim=-1) @ z_classes.t()
        h = F.normalize(model.local_image_head(feats), dim=-1) @ h_classes.t()
        mixed = [(tenths / 10) * z + (1 - tenths / 10) * h for tenths in range(1, 10)]
        for k, logits in enumerate([z, h, *mixed]):
            # The original takes the five best of each.
            correct[k] += int((logits.topk(5, 1).indices[:, 0] == labels).sum())
    return correct


def main():
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--dump", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    experiment = yaml.safe_load(args.experiment.read_text(encoding="utf-8"))
    model = CL2L(experiment["model"], False).eval()
    load(model, load_file(args.dump / "weights.safetensors"))
    prompts = load_file(args.dump / "prompts.safetensors")
    names = json.loads(args.labels.read_text(encoding="utf-8"))
    data = Folder(args.images, names, 224)
    begin = time.perf_counter()
    loader = DataLoader(data, batch_size=args.batch, shuffle=False, num_workers=args.workers)
    correct = evaluate(model, prompts, loader)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"images": len(data), "seconds": seconds, "top1": correct, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
