"""Records what every layer of a model gives, for `rocket-worker parity --against`.

    python tools/record_layers.py --code clip-rocket --checkpoint checkpoint_best.pt --out layers.safetensors

`--code` is a checkout of the original (github.com/facebookresearch/clip-rocket), `--checkpoint` a file that its
main.py saved. The model of the checkpoint's own arguments runs once in evaluation mode on a random image and on
`--text`, or on the tensors `image` [N, 3, H, W] and `tokens` [N, 77] of `--inputs`. The file gets the inputs and,
under its module path (`visual.layer1.0`, `transformer.resblocks.5`, `ln_final`), the output of each module.

Any other model is recorded by `record()`, from a program of one's own.
Needs torch, safetensors, and what the original needs.
"""

import argparse
import sys

import torch
from safetensors.torch import load_file, save_file


def first_tensor(output):
    """The tensor of an output that may be a tuple, as the original's text blocks give (tensor, mode)."""
    if isinstance(output, (tuple, list)):
        output = output[0]
    return output if torch.is_tensor(output) else None


def record(model, path, image=None, tokens=None, encode_image=None, encode_text=None):
    """Runs a model in evaluation mode and writes inputs and layers to a safetensors file.

    A module that runs several times is recorded as of its first run.
    """
    layers, hooks = {}, []

    def hook(name):
        def keep(_module, _inputs, output):
            tensor = first_tensor(output)
            if tensor is not None and name not in layers:
                layers[name] = tensor.detach().float().cpu().clone().contiguous()

        return keep

    for name, module in model.named_modules():
        if name:
            hooks.append(module.register_forward_hook(hook(name)))
    model.eval()
    with torch.no_grad():
        if image is not None:
            (encode_image or model.encode_image)(image)
            layers["image"] = image.float().cpu().contiguous()
        if tokens is not None:
            (encode_text or model.encode_text)(tokens)
            layers["tokens"] = tokens.to(torch.int64).cpu().contiguous()
    for handle in hooks:
        handle.remove()
    save_file(layers, path)
    return layers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", required=True, help="checkout of the original")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--inputs", help="safetensors file with image and tokens")
    parser.add_argument("--text", default="a photo of a dog")
    options = parser.parse_args()
    sys.path.insert(0, options.code)
    import models
    from tokenizer import SimpleTokenizer

    checkpoint = torch.load(options.checkpoint, map_location="cpu", weights_only=False)
    args = checkpoint["args"]
    args.attn_layer = "standard"
    model = models.get_model(args)
    state = {name.removeprefix("module."): value for name, value in checkpoint["state_dict"].items()}
    model.load_state_dict(state)
    if options.inputs:
        inputs = load_file(options.inputs)
        image, tokens = inputs.get("image"), inputs.get("tokens")
    else:
        torch.manual_seed(0)
        image = torch.randn(1, 3, 224, 224)
        tokens = SimpleTokenizer(bpe_path=args.bpe_path)([options.text]).reshape(1, -1)
    layers = record(model, options.out, image, tokens, model.encode_image_val, model.encode_text_val)
    print(f"{options.out}: {len(layers)} tensors")


if __name__ == "__main__":
    main()
