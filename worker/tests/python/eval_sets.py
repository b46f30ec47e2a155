"""The other side of the test of evaluation: torch, torchvision's own readers of the sets, and scikit-learn.

    eval_sets.py DATA OUT      trains a small model on the sets, writes OUT, a safetensors file, and prints the
                               figures of the test splits as JSON

DATA holds mnist, cifar10, stl10, the demo's emoji, and, prepared, country211 and hateful_memes.
"""

import importlib.util
import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import datasets, transforms

WIDTH, EMBED, SIDE = 64, 32, 32
WORKER = Path(__file__).parent.parent.parent
PUBLISHED, DEMO = WORKER / "src/eval/published", WORKER.parent / "demo"


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class VisionBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(WIDTH, 3 * WIDTH), "proj": nn.Linear(WIDTH, WIDTH)})
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = nn.Sequential(OrderedDict(fc1=nn.Linear(WIDTH, 4 * WIDTH), act=nn.GELU(), fc2=nn.Linear(4 * WIDTH, WIDTH)))

    def forward(self, x):
        n, length, _ = x.shape
        q, k, v = self.attn["qkv"](self.norm1(x)).view(n, length, 3, 2, WIDTH // 2).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, WIDTH)
        x = x + self.attn["proj"](y)
        return x + self.mlp(self.norm2(x))


class Vision(nn.Module):
    """A vision transformer with timm's names."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + (SIDE // 8) ** 2, WIDTH) * 0.02)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, 8, stride=8)})
        self.blocks = nn.Sequential(VisionBlock(), VisionBlock())
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.norm(self.blocks(x))[:, 0]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.ln_1 = nn.LayerNorm(WIDTH)
        layers = OrderedDict(c_fc=nn.Linear(WIDTH, 4 * WIDTH), gelu=QuickGELU(), c_proj=nn.Linear(4 * WIDTH, WIDTH))
        self.mlp = nn.Sequential(layers)
        self.ln_2 = nn.LayerNorm(WIDTH)

    def forward(self, x):
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Small(nn.Module):
    """CL2L with projectors of its own, all linear; names as the original's."""

    def __init__(self):
        super().__init__()
        self.visual = Vision()
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(Block(), Block())
        self.token_embedding = nn.Embedding(49408, WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(77, WIDTH) * 0.01)
        self.ln_final = nn.LayerNorm(WIDTH)
        self.image_projector = nn.Linear(WIDTH, EMBED, bias=False)
        self.text_projector = nn.Linear(WIDTH, EMBED, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))
        self.l2l_logit_scale = nn.Parameter(torch.tensor(2.3026))
        self.l2l_image_projector = nn.Linear(WIDTH, EMBED, bias=False)
        self.l2l_text_projector = nn.Linear(WIDTH, EMBED, bias=False)
        # Large, so that prompts differ from the first step.
        nn.init.normal_(self.token_embedding.weight, std=1.0)

    def image(self, x):
        x = self.visual(x)
        return self.image_projector(x), self.l2l_image_projector(x)

    def text(self, tokens):
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        x = self.ln_final(self.transformer.resblocks(x))
        x = x[torch.arange(len(x)), tokens.argmax(1)]
        return self.text_projector(x), self.l2l_text_projector(x)


class Cifar10(datasets.CIFAR10):
    """Not the published images, so not their checksums."""

    meta = datasets.CIFAR10.meta | {"md5": None}

    def _check_integrity(self):
        return True


class Stl10(datasets.STL10):
    def _check_integrity(self):
        return True


def open_set(data, name, train):
    transform = transforms.Compose(
        [
            transforms.Lambda(lambda image: image.convert("RGB")),
            transforms.Resize(SIDE),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    folder = data / name
    if name == "mnist":
        return datasets.MNIST(folder, train=train, transform=transform)
    if name == "cifar10":
        return Cifar10(folder, train=train, transform=transform)
    if name == "stl10":
        return Stl10(folder, split="train" if train else "test", transform=transform)
    if name == "emoji":
        drawings = datasets.ImageFolder(folder / "test", transform=transform)
        order = json.loads((folder / "classes.json").read_text())
        drawings.target_transform = lambda target: order.index(drawings.classes[target])
        return drawings
    test = {"country211": "test", "hateful_memes": "dev"}[name]
    return datasets.ImageFolder(folder / ("train" if train else test), transform=transform)


SETS = ("mnist", "cifar10", "stl10", "country211", "hateful_memes", "emoji")


def tensors(dataset, most=None):
    """Up to `most` images, evenly taken, and their classes."""
    step = max(1, len(dataset) // (most or len(dataset)))
    images, targets = zip(*(dataset[i] for i in range(0, len(dataset), step)))
    return torch.stack(images), torch.tensor(targets)


def clip_tokenizer():
    """open_clip's, without the import of all of open_clip."""
    (folder,) = importlib.util.find_spec("open_clip").submodule_search_locations
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", Path(folder) / "tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer()


def texts(name, tokenizer=clip_tokenizer()):
    folder = DEMO if name == "emoji" else PUBLISHED
    labels = json.loads((folder / "labels.json").read_text())[name]
    templates = json.loads((folder / "templates.json").read_text())[name]
    tokens = [tokenizer([template.format(label) for template in templates]) for label in labels]
    # What comes after the last token changes nothing.
    length = max(int(rows.argmax(1).max()) for rows in tokens) + 1
    return [rows[:, :length] for rows in tokens]


def train(data):
    torch.manual_seed(0)
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    # Flags and emoji are of many classes; they are scored by what was learnt of the others.
    trained = [name for name in SETS if name not in ("country211", "emoji")]
    sets = {name: (*tensors(open_set(data, name, True), 2000), torch.cat([t[:1] for t in texts(name)])) for name in trained}
    for _ in range(60):
        loss = 0
        for images, targets, tokens in sets.values():
            batch = torch.randint(len(images), (96,))
            for image, text, scale in zip(
                model.image(images[batch]), model.text(tokens), (model.logit_scale, model.l2l_logit_scale)
            ):
                logits = nn.functional.normalize(image, dim=1) @ nn.functional.normalize(text, dim=1).T
                loss = loss + nn.functional.cross_entropy(scale.exp() * logits, targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def figures(name, logits, targets):
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score, top_k_accuracy_score

    classes = range(logits.shape[1])
    found = {
        "top1": 100 * float((logits.argmax(1) == targets.numpy()).mean()),
        "top5": 100 * top_k_accuracy_score(targets, logits, k=5, labels=classes) if len(classes) > 5 else 100.0,
        "mean_per_class": 100 * balanced_accuracy_score(targets, logits.argmax(1)),
    }
    if name == "hateful_memes":
        found["roc_auc"] = 100 * roc_auc_score(targets, logits[:, 1] - logits[:, 0])
    return found


@torch.no_grad()
def score(data, model):
    results = {}
    for name in SETS:
        images, targets = tensors(open_set(data, name, False))
        embeddings = [nn.functional.normalize(e, dim=1) for e in model.image(images)]
        classes = ([], [])
        for tokens in texts(name):
            for one, head in zip(model.text(tokens), classes):
                head.append(nn.functional.normalize(nn.functional.normalize(one, dim=1).mean(0), dim=0))
        z, h = (e @ torch.stack(c).T for e, c in zip(embeddings, classes))
        heads = {"z": z, "h": h} | {f"zh_0.{w}": w / 10 * z + (1 - w / 10) * h for w in range(1, 10)}
        results[name] = {head: figures(name, logits.numpy(), targets) for head, logits in heads.items()}
        results[name]["samples"] = len(targets)
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)
    data, out = map(Path, sys.argv[1:])
    model = train(data)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, out)
    print(json.dumps(score(data, model)))
