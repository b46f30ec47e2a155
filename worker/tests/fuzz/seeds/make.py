#!/usr/bin/env python3
"""Makes the pictures beside this file with Pillow (12.0.0): small ones, so that changes hit what matters."""

import pathlib

from PIL import Image

HERE = pathlib.Path(__file__).parent


def values(count, channels):
    steps = (13, 7, 29, 3)[:channels]
    return [tuple(i * step % 256 for step in steps) for i in range(count)]


def picture(mode, width, height):
    image = Image.new(mode, (width, height))
    image.putdata(values(width * height, len(mode)))
    return image


color, alpha = picture("RGB", 20, 14), picture("RGBA", 12, 9)
color.save(HERE / "lossy.webp", quality=30)
color.save(HERE / "lossless.webp", lossless=True)
alpha.save(HERE / "alpha.webp", quality=30)
alpha.save(HERE / "moving.webp", quality=30, save_all=True, append_images=[alpha.rotate(90)])
color.save(HERE / "color.bmp")
color.quantize(16).save(HERE / "palette.bmp")
color.convert("1").save(HERE / "two.bmp")
alpha.save(HERE / "alpha.bmp")
color.save(HERE / "progressive.jpg", progressive=True, restart_marker_blocks=1, quality=50)
