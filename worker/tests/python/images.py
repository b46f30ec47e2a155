"""Pictures in every format that is read, and what Pillow's `convert("RGB")` makes of them.

    python images.py FOLDER

writes the files, for each NAME.rgb with its bytes as [height, width, 3], and list.json with
[[name, width, height], ...].
"""

import io
import json
import struct
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

# The original sets this too.
ImageFile.LOAD_TRUNCATED_IMAGES = True


def photo(width, height, seed):
    """Something like a photo: slopes, edges and a little noise; always the same."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for channel in range(3):
        phase = draw.uniform(0, 6)
        value = 127 + 70 * np.sin(x / (9 + 5 * channel) + phase) + 50 * np.cos(y / (7 + channel) - phase)
        value += 60 * ((x + 2 * y) % 40 < 12) - 30 + draw.normal(0, 6, (height, width))
        planes.append(value)
    return Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8), "RGB")


def encoded(image, form, **options):
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def with_alpha(image):
    """A slope of transparency."""
    width, height = image.size
    slope = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(slope, "L"))
    return image


def placed(data, screen, at, transparent=None):
    """The bytes of a GIF as Pillow writes it, on another screen, with another background than colour 0."""
    flags = data[10]
    palette = 3 << ((flags & 7) + 1)
    control = b"" if transparent is None else bytes([0x21, 0xF9, 4, 1, 0, 0, transparent, 0])
    frame = data.index(b",", 13 + palette)
    size = data[frame + 5 : frame + 9]
    return b"".join(
        (
            struct.pack("<6sHHBBB", b"GIF89a", *screen, flags, 3, 0),
            data[13 : 13 + palette],
            control,
            struct.pack("<cHH", b",", *at),
            size,
            data[frame + 9 :],
        )
    )


def files():
    """Names and bytes."""
    image = photo(157, 101, 0)
    alpha = with_alpha(image)
    palette = image.quantize(64)
    frames = [photo(60, 40, seed).quantize(32) for seed in range(3)]
    for sampling in (0, 1, 2):
        yield f"sampling{sampling}.jpg", encoded(image, "JPEG", quality=85, subsampling=sampling)
    for width, height in ((1, 1), (2, 3), (8, 8), (17, 16), (33, 65), (16, 1)):
        yield f"{width}x{height}.jpg", encoded(photo(width, height, 1), "JPEG", quality=90)
        yield f"{width}x{height}.webp", encoded(photo(width, height, 1), "WEBP", quality=80)
        yield f"{width}x{height}.bmp", encoded(photo(width, height, 1), "BMP")
    progressive = encoded(image, "JPEG", progressive=True, quality=70)
    yield "progressive.jpg", progressive
    yield "optimized.jpg", encoded(image, "JPEG", optimize=True, quality=30)
    yield "restart.jpg", encoded(image, "JPEG", quality=75, restart_marker_blocks=3)
    yield "gray.jpg", encoded(image.convert("L"), "JPEG", quality=80)
    yield "cmyk.jpg", encoded(image.convert("CMYK"), "JPEG", quality=80)
    plain = encoded(image, "JPEG", quality=80)
    yield "ends_early.jpg", plain[: len(plain) * 3 // 5]
    yield "ends_early_progressive.jpg", progressive[: len(progressive) * 4 // 5]

    for mode in ("RGB", "L", "1", "CMYK"):
        if mode != "CMYK":
            yield f"{mode}.png", encoded(image.convert(mode), "PNG")
        if mode in ("RGB", "L", "1"):
            yield f"{mode}.bmp", encoded(image.convert(mode), "BMP")
    yield "RGBA.png", encoded(alpha, "PNG")
    yield "LA.png", encoded(alpha.convert("LA"), "PNG")
    yield "P.png", encoded(palette, "PNG")
    yield "P_few.png", encoded(image.quantize(3), "PNG", bits=2)
    yield "P_transparent.png", encoded(palette, "PNG", transparency=bytes(range(64)))
    yield "RGB_transparent.png", encoded(image, "PNG", transparency=(10, 20, 30))
    wide = np.asarray(image.convert("L")).astype(np.uint16)
    yield "I16.png", encoded(Image.fromarray(wide * 257), "PNG")
    yield "I16_low.png", encoded(Image.fromarray(wide), "PNG")

    yield "P.gif", encoded(palette, "GIF")
    yield "P_lines.gif", encoded(palette, "GIF", interlace=0)
    yield "P_transparent.gif", encoded(palette, "GIF", transparency=5)
    yield "frames.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)

    for name, interlace in (("P", 1), ("P_lines", 0)):
        data = encoded(palette, "GIF", interlace=interlace)
        for share in (1, 2, 3, 4):
            yield f"{name}_ends_early{share}.gif", data[: len(data) * share // 5]
        yield f"{name}_small_screen.gif", placed(data, (48, 40), (0, 0))
        yield f"{name}_off_screen.gif", placed(data, (48, 140), (20, 30))
        yield f"{name}_no_screen.gif", placed(data, (0, 0), (0, 0))
        yield f"{name}_part.gif", placed(data, (200, 150), (11, 7))
        yield f"{name}_part_transparent.gif", placed(data, (200, 150), (11, 7), 5)
        cut = placed(data, (200, 150), (11, 7), 5)
        yield f"{name}_part_transparent_ends_early.gif", cut[: len(cut) // 2]

    for quality in (10, 60, 95):
        yield f"quality{quality}.webp", encoded(image, "WEBP", quality=quality)
    yield "lossless.webp", encoded(image, "WEBP", lossless=True)
    yield "alpha.webp", encoded(alpha, "WEBP", quality=80)
    yield "alpha_exact.webp", encoded(alpha, "WEBP", lossless=True, exact=True)
    rgb = [photo(60, 40, seed) for seed in range(3)]
    yield "frames.webp", encoded(rgb[0], "WEBP", save_all=True, append_images=rgb[1:], duration=50)

    yield "P.bmp", encoded(palette, "BMP")
    yield "RGBA.bmp", encoded(alpha, "BMP")


def main():
    """See the module."""
    folder = Path(sys.argv[1])
    listed = []
    for name, data in files():
        (folder / name).write_bytes(data)
        with Image.open(folder / name) as image:
            image = image.convert("RGB")
        (folder / f"{name}.rgb").write_bytes(image.tobytes())
        listed.append([name, *image.size])
    (folder / "list.json").write_text(json.dumps(listed), encoding="utf-8")


if __name__ == "__main__":
    main()
