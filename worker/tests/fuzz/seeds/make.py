#!/usr/bin/env python3
"""Makes the files beside this one: small ones, so that changes hit what matters. Pictures with Pillow (12.0.0)."""

import pathlib

import h5py
import numpy
from PIL import Image
from scipy.io import savemat

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

# MATLAB's files with SciPy (1.17.1), HDF5 files with h5py (3.16.0).
cars = numpy.zeros((1, 2), dtype=[(name, object) for name in ("relative_im_path", "bbox_x1", "class", "test")])
cars[0, 0] = ("car_ims/000001.jpg", numpy.uint8([[3]]), numpy.uint8([[1]]), numpy.uint8([[0]]))
cars[0, 1] = ("car_ims/000002.jpg", numpy.uint16([[300]]), numpy.uint8([[2]]), numpy.uint8([[1]]))
names = numpy.zeros((1, 2), dtype=object)
names[0, :] = ["Acura RL Sedan 2012", "Ram C/V Cargo Van 2012"]
savemat(HERE / "cars.mat", {"annotations": cars, "class_names": names}, do_compression=False)
labels = {"labels": numpy.uint8([[77, 1, 102]]), "real": numpy.float64([[0.5]]), "set": numpy.int32([[-1, 70000]])}
savemat(HERE / "numbers.mat", labels, do_compression=False)
savemat(HERE / "packed.mat", {"class_names": names}, do_compression=True)

pixels = numpy.repeat(numpy.uint8([7, 99, 200, 255]), 96 * 96 * 3).reshape(4, 96, 96, 3)
for name, options in (
    ("chunks.h5", {"chunks": (1, 96, 96, 3), "compression": "gzip"}),
    ("shuffled.h5", {"chunks": (3, 96, 96, 3), "compression": "gzip", "shuffle": True, "fletcher32": True}),
    # Never written: nothing but the value that fills it.
    ("plain.h5", {}),
):
    with h5py.File(HERE / name, "w") as file:
        if options:
            file.create_dataset("x", data=pixels, **options)
        else:
            file.create_dataset("x", pixels.shape, pixels.dtype)
with h5py.File(HERE / "latest.h5", "w", libver="latest") as file:
    file.create_dataset("x", data=pixels, chunks=(1, 96, 96, 3), compression="gzip", maxshape=(None, 96, 96, 3))
with h5py.File(HERE / "labels.h5", "w") as file:
    file.create_dataset("y", data=numpy.uint8([0, 1, 0, 1]).reshape(4, 1, 1, 1))
