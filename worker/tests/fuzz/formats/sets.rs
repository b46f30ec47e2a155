//! Evaluation sets as they are published: what is read in place, and what is prepared.

use std::fs;
use std::path::{Path, PathBuf};

use rocket_worker::eval::{Split, prepare, special};

use super::{cut, files, nothing};
use crate::mutate::Grammar;
use crate::{Read, Target};

/// Words every few of which begin a piece.
fn words(bytes: &[u8], size: usize) -> Vec<std::ops::Range<usize>> {
    cut(bytes, (size..bytes.len()).step_by(size).collect())
}

/// A set whose file `file` is the input, read as it is; `others` lie beside it.
fn read_in_place(set: &'static str, file: &str, others: &[(&str, Vec<u8>)]) -> Read {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in others {
        fs::write(folder.path().join(name), bytes).expect("written");
    }
    let input = folder.path().join(file);
    Box::new(move |bytes| {
        fs::write(&input, bytes).expect("written");
        let catalog = Path::new("catalog.json");
        match special::read(catalog, set, folder.path(), Split::Test) {
            Ok(images) => {
                assert!(!images.is_empty());
                let _ = images.picture(images.len() - 1);
                format!("images, names: {}", images.names.is_some())
            }
            Err(error) => error
                .to_string()
                .replace(&folder.path().display().to_string(), ""),
        }
    })
}

/// An IDX file of `count` images of 28 x 28.
fn idx(count: u8) -> Vec<u8> {
    let head = [0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28];
    [head.to_vec(), vec![7; 784 * usize::from(count)]].concat()
}

/// MNIST's images. A gzipped file may say that it is large, and is not read beyond 256 MB.
pub(crate) fn mnist() -> Target {
    let labels = vec![0, 0, 8, 1, 0, 0, 0, 2, 7, 2];
    Target {
        name: "mnist",
        grammar: Grammar {
            words: &[
                b"\0\0\x08\x03",
                b"\0\0\x08\x01",
                b"\0\0\x0d\x03",
                b"\0\0\0\x1c",
                b"\xff\xff\xff\xff",
                b"\x1f\x8b\x08",
            ],
            split: |bytes| words(bytes, 4),
            mend: nothing,
        },
        seeds: vec![idx(2), idx(3)],
        read: read_in_place(
            "mnist",
            "t10k-images-idx3-ubyte",
            &[("t10k-labels-idx1-ubyte", labels)],
        ),
        memory: |length| 8 * length as u64 + (1 << 18),
    }
}

/// A batch of CIFAR-10 as Python 2 pickled it.
fn batch() -> Vec<u8> {
    let mut out = b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01K\x02M\0\x0c\x86cnumpy\ndtype\nU\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89T\0\x18\0\0".to_vec();
    out.extend([9; 2 * 3072]);
    out.extend(b"tbU\x06labels](K\x03K\x09eu.");
    out
}

/// Batches of CIFAR-10.
pub(crate) fn cifar() -> Target {
    Target {
        name: "cifar",
        grammar: Grammar {
            words: &[
                b"U\x04data",
                b"U\x06labels",
                b"U\x0bfine_labels",
                b"U\x02u1",
                b"U\x02f8",
                b"M\0\x0c\x86",
                b"K\0",
                b"J\xff\xff\xff\xff",
                b"](",
                b"tb",
                b"e",
            ],
            split: |bytes| words(bytes, 24),
            mend: nothing,
        },
        seeds: vec![batch()],
        read: {
            let read = read_in_place("cifar10", "test_batch", &[]);
            assert!(read(&batch()).starts_with("images"), "{}", read(&batch()));
            read
        },
        memory: |length| 300 * length as u64 + (1 << 20),
    }
}

/// A set that is prepared from `source`, of which one file is the input.
fn prepared(set: &'static str, file: &str, others: &[(&str, Vec<u8>)]) -> Read {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    let put = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = source.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(&path, bytes).expect("written");
        path
    };
    for (name, bytes) in others {
        put(name, bytes);
    }
    let input = put(file, b"");
    Box::new(move |bytes| {
        fs::write(&input, bytes).expect("written");
        let dest = folder.path().join("dest");
        let outcome = prepare::prepare(set, &source, &dest, &mut |_, _| {});
        for made in ["dest", "dest.preparing"] {
            let _ = fs::remove_dir_all(folder.path().join(made));
        }
        let beside = fs::read_dir(folder.path()).expect("the folder").count();
        assert_eq!(beside, 1, "something was written outside");
        match outcome {
            Ok(prepared) => format!("prepared {:?}", prepared.record.classes.keys()),
            Err(error) => error
                .to_string()
                .replace(&folder.path().display().to_string(), ""),
        }
    })
}

/// MATLAB's label files, as those of the Stanford cars are.
pub(crate) fn mat() -> Target {
    let images = ["car_ims/000001.jpg", "car_ims/000002.jpg"];
    let images = images.map(|name| (name, b"image".to_vec()));
    Target {
        name: "mat",
        grammar: Grammar {
            words: &[
                b"\x0e\0\0\0",
                b"\x0f\0\0\0",
                b"\x01\0\x04\0",
                b"\x05\0\x04\0\x01\0\0\0",
                b"\x05\0\0\0\x08\0\0\0",
                b"\x06\0\0\0\x08\0\0\0",
                b"\x02\0\0\0",
                b"\xff\xff\xff\xff",
                b"annotations",
                b"class_names",
                b"relative_im_path",
            ],
            split: |bytes| words(bytes, 8),
            mend: nothing,
        },
        seeds: files!["seeds/cars.mat", "seeds/numbers.mat", "seeds/packed.mat"],
        read: prepared("cars", "cars_annos.mat", &images),
        // A compressed variable is held whole; deflate makes at most 1,032 bytes of one.
        memory: |length| 12_000 * length as u64 + (4 << 20),
    }
}

/// Pixels in HDF5, as those of PatchCamelyon are.
pub(crate) fn hdf5() -> Target {
    let y = include_bytes!("../seeds/labels.h5").to_vec();
    Target {
        name: "hdf5",
        grammar: Grammar {
            words: &[
                b"\x89HDF\r\n\x1a\n",
                b"OHDR",
                b"OCHK",
                b"TREE",
                b"SNOD",
                b"HEAP",
                b"BTHD",
                b"FAHD",
                b"EAHD",
                b"\xff\xff\xff\xff\xff\xff\xff\xff",
                b"\x60\0\0\0\0\0\0\0",
            ],
            split: |bytes| words(bytes, 8),
            mend: nothing,
        },
        seeds: files![
            "seeds/chunks.h5",
            "seeds/shuffled.h5",
            "seeds/plain.h5",
            "seeds/latest.h5",
        ],
        read: prepared(
            "patch_camelyon",
            "camelyonpatch_level_2_split_valid_x.h5",
            &[("camelyonpatch_level_2_split_valid_y.h5", y)],
        ),
        // Chunks that are kept, what is read at once, and the copies between.
        memory: |_| 400 << 20,
    }
}

/// Traffic signs in PPM, which become PNG.
pub(crate) fn ppm() -> Target {
    let list = b"Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n0.ppm;2;1;0;0;1;0;7\n";
    Target {
        name: "ppm",
        grammar: Grammar {
            words: &[
                b"P6",
                b"P5",
                b"# no",
                b"\n",
                b" ",
                b"255",
                b"65535",
                b"4294967296",
                b"99999",
                b"0",
            ],
            split: |bytes| words(bytes, 2),
            mend: nothing,
        },
        seeds: vec![
            b"P6\n# a comment\n2 1\n255\n\x01\x02\x03\xFF\xFE\xFD".to_vec(),
            b"P6 1 2 255 abcdef".to_vec(),
        ],
        read: prepared(
            "gtsrb",
            "GTSRB/Final_Test/Images/0.ppm",
            &[("GT-final_test.csv", list.to_vec())],
        ),
        memory: |length| 64 * length as u64 + (4 << 20),
    }
}
