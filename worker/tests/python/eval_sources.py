"""Sources of `prepare-eval` with label files of MATLAB and HDF5, in the layouts in which the sets are published.

    eval_sources.py OUT      OUT/cars, OUT/cars_old, OUT/flowers, OUT/imagenet, OUT/patch_camelyon
"""

import gzip
import io
import sys
import tarfile
from pathlib import Path

import h5py
import numpy
from scipy.io import savemat


def pack(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def mat(variables, compressed=True):
    file = io.BytesIO()
    savemat(file, variables, do_compression=compressed)
    return file.getvalue()


def structs(names, rows):
    """A 1 x n array of structs, whose numbers are 1 x 1 matrices."""
    array = numpy.zeros((1, len(rows)), dtype=[(name, object) for name in names])
    for i, row in enumerate(rows):
        array[0, i] = tuple(value if isinstance(value, str) else numpy.array([[value]], dtype=numpy.uint8) for value in row)
    return array


def cells(texts):
    array = numpy.zeros((1, len(texts)), dtype=object)
    array[0, :] = texts
    return array


CARS = cells(["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"])
BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


def cars(out):
    out.mkdir(parents=True)
    train = structs(BOX, [(1, 2, 3, 4, 3, "00001.jpg"), (1, 2, 3, 4, 1, "00002.jpg")])
    test = structs(BOX, [(1, 2, 3, 4, 2, "00001.jpg"), (1, 2, 3, 4, 3, "00002.jpg")])
    pack(
        out / "car_devkit.tgz",
        {
            "devkit/cars_meta.mat": mat({"class_names": CARS}),
            "devkit/cars_train_annos.mat": mat({"annotations": train}),
            "devkit/cars_test_annos.mat": mat({"annotations": structs(BOX[:4], [(1, 2, 3, 4)])}),
        },
    )
    (out / "cars_test_annos_withlabels.mat").write_bytes(mat({"annotations": test}, compressed=False))
    for split in ("train", "test"):
        pack(out / f"cars_{split}.tgz", {f"cars_{split}/0000{i}.jpg": b"image" for i in (1, 2)})


def cars_old(out):
    """The one archive for both splits."""
    out.mkdir()
    names = ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    rows = [("car_ims/000001.jpg", 1, 2, 3, 4, 1, 0), ("car_ims/000002.jpg", 1, 2, 3, 4, 2, 1)]
    (out / "cars_annos.mat").write_bytes(mat({"annotations": structs(names, rows), "class_names": CARS}))
    pack(out / "car_ims.tgz", {f"car_ims/00000{i}.jpg": b"image" for i in (1, 2)})


def flowers(out):
    out.mkdir()
    pack(out / "102flowers.tgz", {f"jpg/image_0000{i}.jpg": b"image" for i in range(1, 6)})
    # Numbers of one byte, and of two, as MATLAB chooses by their size.
    (out / "imagelabels.mat").write_bytes(mat({"labels": numpy.array([[77, 1, 102, 3, 1]], dtype=numpy.uint8)}))
    ids = {"trnid": [[2]], "valid": [[1]], "tstid": [[3, 4, 5]]}
    (out / "setid.mat").write_bytes(mat({name: numpy.array(value, dtype=numpy.uint16) for name, value in ids.items()}))


def imagenet(out):
    out.mkdir()
    names = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")
    ids = ["n02119789", "n02100735", "n01440764"]
    synsets = structs(names, [(i + 1, wnid, "fox", "a fox", 0, 0, 0, 200) for i, wnid in enumerate(ids)])
    pack(
        out / "ILSVRC2012_devkit_t12.tar.gz",
        {
            # One column, as in the published file.
            "ILSVRC2012_devkit_t12/data/meta.mat": mat({"synsets": synsets.T}),
            "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"3\n1\n2\n",
        },
    )
    images = {f"ILSVRC2012_val_0000000{i}.JPEG": b"image" for i in (1, 2, 3)}
    pack(out / "ILSVRC2012_img_val.tar", images, "w")
    classes = {}
    for wnid in ids:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            entry = tarfile.TarInfo(f"{wnid}_7.JPEG")
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"image"))
        classes[f"{wnid}.tar"] = file.getvalue()
    pack(out / "ILSVRC2012_img_train.tar", classes, "w")


def patch_camelyon(out):
    out.mkdir()
    for split, count in (("train", 3), ("valid", 2)):
        pixels = (numpy.arange(96 * 96 * 3)[None] + numpy.arange(count)[:, None]) % 256
        labels = numpy.arange(count) % 2
        arrays = {
            "x": pixels.astype(numpy.uint8).reshape(count, 96, 96, 3),
            "y": labels.astype(numpy.uint8).reshape(count, 1, 1, 1),
        }
        for name, array in arrays.items():
            file = io.BytesIO()
            with h5py.File(file, "w") as h5:
                h5.create_dataset(name, data=array, chunks=(1, *array.shape[1:]), compression="gzip" if name == "x" else None)
            path = out / f"camelyonpatch_level_2_split_{split}_{name}.h5"
            # One of them unpacked.
            if (split, name) == ("valid", "y"):
                path.write_bytes(file.getvalue())
            else:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(file.getvalue()))


if __name__ == "__main__":
    for make in (cars, cars_old, flowers, imagenet, patch_camelyon):
        make(Path(sys.argv[1]) / make.__name__)
