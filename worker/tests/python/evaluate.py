"""Zero-shot scores by open_clip: `evaluate.py FOLDER` reads what eval_python.rs put there and writes scores.json.

z.open_clip and h.open_clip are the same towers with either head; images/<class>/ are the images, names.json the classes
in the order of their labels, prompts.json the prompts, captions.json COCO's captions of the same images. Everything is
open_clip's: model, tokenizer, and preprocessing with Pillow and torchvision.
"""

import json
import sys
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image


def heads(z, h):
    """z, h and the mixtures of two tensors of similarities, by name."""
    yield "z", z
    yield "h", h
    for tenths in range(1, 10):
        yield f"zh_0.{tenths}", (tenths / 10) * z + (1 - tenths / 10) * h


def zero_shot(z, h, targets, classes):
    """Figures of every head in percent."""
    scores = []
    for name, similarity in heads(z, h):
        five = similarity.topk(5, 1).indices
        right = five[:, 0] == targets
        by_class = [right[targets == c].float().mean() for c in range(classes) if (targets == c).any()]
        scores.append(
            {
                "head": name,
                "top1": 100 * right.double().mean().item(),
                "top5": 100 * (five == targets[:, None]).any(1).double().mean().item(),
                "mean_per_class": 100 * torch.stack(by_class).double().mean().item(),
            }
        )
    return scores


def recall(similarity, belongs):
    """Recall at 1, 5 and 10 of rows to columns; belongs[i] are the columns of row i."""
    order = similarity.argsort(dim=1, descending=True, stable=True)
    found = [[bool(set(row[:depth].tolist()) & set(belongs[i])) for i, row in enumerate(order)] for depth in (1, 5, 10)]
    return [100 * sum(hits) / len(hits) for hits in found]


@torch.no_grad()
def main(folder):
    """See the module."""
    models = {head: open_clip.create_model_and_transforms(f"local-dir:{folder / head}.open_clip") for head in "zh"}
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    names = json.loads((folder / "names.json").read_text())
    prompts = json.loads((folder / "prompts.json").read_text())
    files = [(path, label) for label, name in enumerate(names) for path in sorted((folder / "images" / name).iterdir())]
    targets = torch.tensor([label for _, label in files])
    coco = json.loads((folder / "captions.json").read_text())
    captions = [note["caption"] for note in coco["annotations"]]
    by_file = {image["file_name"]: image["id"] for image in coco["images"]}
    image_of = [note["image_id"] for note in coco["annotations"]]
    similarity, between = {}, {}
    for head, (model, _, preprocess) in models.items():
        model.eval()
        images = torch.cat([preprocess(Image.open(path)).unsqueeze(0) for path, _ in files])
        embedded = F.normalize(model.encode_image(images), dim=-1)
        classes = []
        for name in names:
            texts = F.normalize(model.encode_text(tokenize([prompt.format(name) for prompt in prompts])), dim=-1)
            classes.append(F.normalize(texts.mean(0), dim=0))
        similarity[head] = embedded @ torch.stack(classes).t()
        texts = F.normalize(model.encode_text(tokenize(captions)), dim=-1)
        between[head] = embedded @ texts.t()
    ids = [by_file[f"{path.parent.name}/{path.name}"] for path, _ in files]
    texts_of = [[k for k, image in enumerate(image_of) if image == own] for own in ids]
    images_of = [[ids.index(image)] for image in image_of]
    retrieval = [
        {"head": name, "image_to_text": recall(both, texts_of), "text_to_image": recall(both.t(), images_of)}
        for name, both in heads(between["z"], between["h"])
    ]
    scores = {"zero_shot": zero_shot(similarity["z"], similarity["h"], targets, len(names)), "retrieval": retrieval}
    (folder / "scores.json").write_text(json.dumps(scores))


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(Path(sys.argv[1]))
