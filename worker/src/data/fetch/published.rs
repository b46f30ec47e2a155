//! The archives of small sets, as their authors publish them. Sizes and SHA-256 are those that TensorFlow
//! Datasets has on record for the same files (below `tensorflow_datasets`: `url_checksums/mnist.txt`,
//! `url_checksums/cifar10.txt`, `url_checksums/cifar100.txt` and `datasets/stl10/checksums.tsv`). MNIST and
//! STL-10 lie as torchvision's `datasets` lay them; of CIFAR it is the binary version, with the names that its
//! archives have.

/// A set of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it consists of.
    pub archives: &'static [Archive],
}

/// A file that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archive {
    /// Its name.
    pub file: &'static str,
    /// The folders of the web that have it, tried in this order.
    pub places: &'static [&'static str],
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: &'static str,
    /// What becomes of it.
    pub contents: Contents,
}

/// What is in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// One compressed file, put with the archive itself into a folder.
    Gz {
        /// The folder.
        folder: &'static str,
        /// Name of the file.
        name: &'static str,
        /// Its length.
        bytes: u64,
    },
    /// A folder of files.
    TarGz {
        /// The folder.
        folder: &'static str,
        /// What must be in it, with its length.
        files: &'static [(&'static str, u64)],
        /// Most bytes of all files together.
        most_bytes: u64,
    },
}

const MNIST_PLACES: &[&str] = &[
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
];

const fn mnist(
    file: &'static str,
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
    unpacked: u64,
) -> Archive {
    Archive {
        file,
        places: MNIST_PLACES,
        bytes,
        sha256,
        contents: Contents::Gz {
            folder: "MNIST/raw",
            name,
            bytes: unpacked,
        },
    }
}

/// Records of CIFAR: 3072 pixels and one or two labels.
const CIFAR10_BATCH: u64 = 10_000 * 3073;
/// Pixels of an image of STL-10.
const STL10_IMAGE: u64 = 3 * 96 * 96;

/// All sets that can be fetched.
pub const SETS: &[Published] = &[
    Published {
        name: "mnist",
        archives: &[
            mnist(
                "train-images-idx3-ubyte.gz",
                "train-images-idx3-ubyte",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                16 + 60_000 * 28 * 28,
            ),
            mnist(
                "train-labels-idx1-ubyte.gz",
                "train-labels-idx1-ubyte",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                8 + 60_000,
            ),
            mnist(
                "t10k-images-idx3-ubyte.gz",
                "t10k-images-idx3-ubyte",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                16 + 10_000 * 28 * 28,
            ),
            mnist(
                "t10k-labels-idx1-ubyte.gz",
                "t10k-labels-idx1-ubyte",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                8 + 10_000,
            ),
        ],
    },
    Published {
        name: "cifar10",
        archives: &[Archive {
            file: "cifar-10-binary.tar.gz",
            places: &["https://www.cs.toronto.edu/~kriz/"],
            bytes: 170_052_171,
            sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            contents: Contents::TarGz {
                folder: "cifar-10-batches-bin",
                files: &[
                    ("data_batch_1.bin", CIFAR10_BATCH),
                    ("data_batch_2.bin", CIFAR10_BATCH),
                    ("data_batch_3.bin", CIFAR10_BATCH),
                    ("data_batch_4.bin", CIFAR10_BATCH),
                    ("data_batch_5.bin", CIFAR10_BATCH),
                    ("test_batch.bin", CIFAR10_BATCH),
                ],
                most_bytes: 6 * CIFAR10_BATCH + (1 << 20),
            },
        }],
    },
    Published {
        name: "cifar100",
        archives: &[Archive {
            file: "cifar-100-binary.tar.gz",
            places: &["https://www.cs.toronto.edu/~kriz/"],
            bytes: 168_513_733,
            sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            contents: Contents::TarGz {
                folder: "cifar-100-binary",
                files: &[("train.bin", 50_000 * 3074), ("test.bin", 10_000 * 3074)],
                most_bytes: 60_000 * 3074 + (1 << 20),
            },
        }],
    },
    Published {
        name: "stl10",
        archives: &[Archive {
            file: "stl10_binary.tar.gz",
            places: &["http://ai.stanford.edu/~acoates/stl10/"],
            bytes: 2_640_397_119,
            sha256: "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
            contents: Contents::TarGz {
                folder: "stl10_binary",
                files: &[
                    ("train_X.bin", 5_000 * STL10_IMAGE),
                    ("train_y.bin", 5_000),
                    ("test_X.bin", 8_000 * STL10_IMAGE),
                    ("test_y.bin", 8_000),
                    ("unlabeled_X.bin", 100_000 * STL10_IMAGE),
                ],
                most_bytes: 113_000 * STL10_IMAGE + (4 << 20),
            },
        }],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        for archive in SETS.iter().flat_map(|set| set.archives) {
            assert_eq!(archive.sha256.len(), 64, "{}", archive.file);
            assert!(archive.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
            for place in archive.places {
                let url = reqwest::Url::parse(place).expect("an address");
                let url = url.join(archive.file).expect("an address");
                assert!(url.as_str().ends_with(&format!("/{}", archive.file)));
            }
            if let Contents::TarGz {
                files, most_bytes, ..
            } = archive.contents
            {
                let needed: u64 = files.iter().map(|(_, bytes)| bytes).sum();
                assert!(needed <= most_bytes, "{}", archive.file);
            }
        }
    }
}
