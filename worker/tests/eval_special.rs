//! Sets in binary formats of their own, and file lists.

mod eval_support;

use std::fs;
use std::io::Write as _;

use eval_support::{Set, stl10};
use rocket_worker::eval::classes::Matched;
use rocket_worker::eval::{Split, published, special};
use serde_json::json;

/// An IDX file.
fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    sizes
        .iter()
        .for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(elements);
    bytes
}

fn mnist(labels: &[u8]) -> [Vec<u8>; 2] {
    let pixels: Vec<u8> = labels.iter().flat_map(|&label| [label * 20; 784]).collect();
    let count = labels.len() as u32;
    [idx(&[count, 28, 28], &pixels), idx(&[count], labels)]
}

#[test]
fn mnist_is_read_from_idx_files_packed_or_not() {
    let set = Set::new("mnist", "special");
    let [images, labels] = mnist(&[7, 2, 1]);
    set.write("MNIST/raw/t10k-images-idx3-ubyte", &images);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&labels).expect("packed");
    let packed = packed.finish().expect("packed");
    set.write("MNIST/raw/t10k-labels-idx1-ubyte.gz", &packed);
    assert_eq!(
        set.read(Split::Test),
        [([140; 3], 7), ([40; 3], 2), ([20; 3], 1)]
    );
    let open = set.open();
    assert_eq!((open.samples.len(), open.matched), (3, Matched::Published));
    assert_eq!(open.prompts.by_class[7], ["a photo of the number: \"7\"."]);

    set.write("MNIST/raw/t10k-images-idx3-ubyte", &images[..100]);
    insta::assert_snapshot!(set.error(), @"data/MNIST/raw/t10k-images-idx3-ubyte: is no IDX file of bytes with 3 axes: its header says [3, 28, 28], but 84 bytes follow; fetch it again");
    set.write("MNIST/raw/t10k-images-idx3-ubyte", &labels);
    insta::assert_snapshot!(set.error(), @"data/MNIST/raw/t10k-images-idx3-ubyte: is no IDX file of bytes with 3 axes: it begins with [00, 00, 08, 01]; fetch it again");
    set.write(
        "MNIST/raw/t10k-images-idx3-ubyte",
        &mnist(&[1, 2]).concat()[..16 + 2 * 784],
    );
    insta::assert_snapshot!(set.error(), @"data/MNIST/raw/t10k-images-idx3-ubyte: holds 1568 bytes of pixels and 3 labels, which is no whole number of images of 784 bytes with a label each; the file is cut off or another one: fetch it again");
    let other = Set::new("mnist", "special").labels(&json!(["zero", "one"]));
    other.write("t10k-images-idx3-ubyte", &images);
    other.write("t10k-labels-idx1-ubyte", &labels);
    insta::assert_snapshot!(other.error(), @r"
    data: the class folders of 'mnist' do not match its labels in labels.json:
      the set has 10 classes, but there are 2 labels
    give one label per class, in the set's own order
    ");
    fs::remove_file(set.data().join("MNIST/raw/t10k-images-idx3-ubyte")).expect("removed");
    insta::assert_snapshot!(set.error(), @"catalog.json: entry 'mnist': there is none of the files data/MNIST/raw/t10k-images-idx3-ubyte, data/MNIST/raw/t10k-images-idx3-ubyte.gz, data/MNIST/raw/t10k-images.idx3-ubyte, data/MNIST/raw/t10k-images.idx3-ubyte.gz, data/raw/t10k-images-idx3-ubyte, data/raw/t10k-images-idx3-ubyte.gz, data/raw/t10k-images.idx3-ubyte, data/raw/t10k-images.idx3-ubyte.gz, data/t10k-images-idx3-ubyte, data/t10k-images-idx3-ubyte.gz, data/t10k-images.idx3-ubyte, data/t10k-images.idx3-ubyte.gz; unpack the published files there, or run 'rocket-worker data fetch mnist data'");
}

/// An image of CIFAR whose planes are filled with these values.
fn planes(colour: [u8; 3], size: usize) -> Vec<u8> {
    colour.iter().flat_map(|&value| vec![value; size]).collect()
}

#[test]
fn cifar_is_read_in_its_binary_version() {
    let set = Set::new("cifar10", "special");
    let record = |label: u8| [vec![label], planes([label, 10 + label, 20 + label], 1024)].concat();
    set.write(
        "cifar-10-batches-bin/test_batch.bin",
        &[record(3), record(9)].concat(),
    );
    for batch in 1..=5 {
        set.write(
            &format!("cifar-10-batches-bin/data_batch_{batch}.bin"),
            &record(batch),
        );
    }
    let names = published::class_names("cifar10").expect("names").join("\n") + "\n\n";
    set.write("cifar-10-batches-bin/batches.meta.txt", names.as_bytes());
    assert_eq!(set.read(Split::Test), [([3, 13, 23], 3), ([9, 19, 29], 9)]);
    assert_eq!(set.open().samples.len(), 2);
    let train: Vec<usize> = set.read(Split::Train).iter().map(|image| image.1).collect();
    assert_eq!(train, [1, 2, 3, 4, 5]);

    let hundred = Set::new("cifar100", "special");
    let record = [vec![19, 99], planes([1, 2, 3], 1024)].concat();
    hundred.write("cifar-100-binary/test.bin", &record);
    assert_eq!(hundred.read(Split::Test), [([1, 2, 3], 99)]);

    set.write("cifar-10-batches-bin/batches.meta.txt", b"cat\ndog\n");
    insta::assert_snapshot!(set.error(), @r"
    data/cifar-10-batches-bin/batches.meta.txt: the class folders of 'cifar10' do not match its labels in rocket's own list:
      the set has 2 classes, but there are 10 labels
    give one label per class, in the set's own order
    ");
    set.write("cifar-10-batches-bin/test_batch.bin", &[7; 3000]);
    insta::assert_snapshot!(set.error(), @"data/cifar-10-batches-bin/test_batch.bin: has 3000 bytes, which is no whole number of records of 3073; it is cut off or another file: fetch it again");
    set.write("cifar-10-batches-bin/test_batch.bin", &[11; 3073]);
    insta::assert_snapshot!(set.error(), @"data/cifar-10-batches-bin/test_batch.bin: image 0 has label 11, but there are 10 classes; the file is damaged or another one: fetch it again");
    hundred.write("cifar-100-python.tar.gz", b"");
    fs::remove_dir_all(hundred.data().join("cifar-100-binary")).expect("removed");
    insta::assert_snapshot!(hundred.error(), @"catalog.json: entry 'cifar100': there is none of the files data/cifar-100-python/test, data/test, data/cifar-100-binary/test.bin, data/test.bin; unpack the archive that is there: tar -xzf data/cifar-100-python.tar.gz -C data");
}

/// A batch as Python 2 pickled it, by hand: strings are bytes, and the array is built from one.
fn python2_batch(label_key: &str, labels: &[u8], pixels: &[u8]) -> Vec<u8> {
    let short = |text: &str| [&[b'U', text.len() as u8][..], text.as_bytes()].concat();
    let mut out = vec![0x80, 2, b'}', b'('];
    out.extend(short("data"));
    out.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85");
    out.extend(short("b"));
    out.extend(b"\x87R(K\x01");
    out.extend([b'K', labels.len() as u8, b'M', 0, 12, 0x86]);
    out.extend(b"cnumpy\ndtype\n");
    out.extend(short("u1"));
    out.extend(b"K\0K\x01\x87R(K\x03");
    out.extend(short("|"));
    out.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89T");
    out.extend((pixels.len() as u32).to_le_bytes());
    out.extend(pixels);
    out.extend(b"tb");
    out.extend(short(label_key));
    out.extend(b"](");
    labels.iter().for_each(|&label| out.extend([b'K', label]));
    out.extend(b"eu.");
    out
}

#[test]
fn cifar_is_read_in_its_version_for_python() {
    let set = Set::new("cifar10", "special");
    let pixels = [planes([5, 6, 7], 1024), planes([8, 9, 10], 1024)].concat();
    set.write(
        "cifar-10-batches-py/test_batch",
        &python2_batch("labels", &[4, 0], &pixels),
    );
    assert_eq!(set.read(Split::Test), [([5, 6, 7], 4), ([8, 9, 10], 0)]);
    let hundred = Set::new("cifar100", "special");
    hundred.write(
        "cifar-100-python/test",
        &python2_batch("fine_labels", &[49, 33], &pixels),
    );
    assert_eq!(
        hundred.read(Split::Test),
        [([5, 6, 7], 49), ([8, 9, 10], 33)]
    );

    set.write(
        "cifar-10-batches-py/test_batch",
        &python2_batch("labels", &[4, 0], &pixels[1..]),
    );
    insta::assert_snapshot!(set.error(), @"data/cifar-10-batches-py/test_batch: is no batch of CIFAR: the pickle is broken at byte 6274: an array's shape and its bytes do not agree; fetch it again");
    set.write(
        "cifar-10-batches-py/test_batch",
        &python2_batch("fine_labels", &[4, 0], &pixels),
    );
    insta::assert_snapshot!(set.error(), @"data/cifar-10-batches-py/test_batch: is no batch of CIFAR: it has no list 'labels'; fetch it again");
    set.write(
        "cifar-10-batches-py/test_batch",
        b"\x80\x02cos\nsystem\nU\x02ls\x85R.",
    );
    insta::assert_snapshot!(set.error(), @"data/cifar-10-batches-py/test_batch: is no batch of CIFAR: the pickle calls for 'os.system' (byte 2), which is refused: only numpy arrays, dicts, lists, tuples, text and numbers are read, and no code is run; fetch it again");
}

#[test]
fn stl10_is_read_by_columns_with_labels_from_one() {
    let set = Set::new("stl10", "special");
    stl10(&set, "test", &[10, 1]);
    stl10(&set, "train", &[2]);
    assert_eq!(
        set.read(Split::Test)
            .iter()
            .map(|i| i.1)
            .collect::<Vec<_>>(),
        [9, 0]
    );
    assert_eq!(set.read(Split::Train).len(), 1);
    let at = set.dir.path().join("catalog.json");
    let images = special::read(&at, "stl10", &set.data(), Split::Test).expect("images");
    let picture = images.picture(0);
    // The left column of every row, in all colours.
    assert_eq!(&picture.data[..4], [1, 1, 1, 0]);
    assert_eq!(&picture.data[95 * 96 * 3..][..4], [1, 1, 1, 0]);

    stl10(&set, "test", &[10, 0]);
    insta::assert_snapshot!(set.error(), @"data/stl10_binary/test_y.bin: holds label 0, but STL-10's labels are 1 to 10; fetch it again");
    set.write("stl10_binary/test_y.bin", &[1, 2, 3]);
    insta::assert_snapshot!(set.error(), @"data/stl10_binary/test_X.bin: holds 55296 bytes of pixels and 3 labels, which is no whole number of images of 27648 bytes with a label each; the file is cut off or another one: fetch it again");
}

/// An npy file of one axis: `<U8`, or `<i8`.
fn npy(dtype: &str, rows: usize, data: &[u8]) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({rows},), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    [
        b"\x93NUMPY\x01\0".as_slice(),
        &(header.len() as u16).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn npy_texts(texts: &[&str]) -> Vec<u8> {
    let width = texts.iter().map(|t| t.chars().count()).max().unwrap_or(1);
    let mut data = Vec::new();
    for text in texts {
        let codes = text.chars().map(u32::from).chain(std::iter::repeat(0));
        codes
            .take(width)
            .for_each(|code| data.extend(code.to_le_bytes()));
    }
    npy(&format!("<U{width}"), texts.len(), &data)
}

#[test]
fn a_file_list_is_read_with_text_or_numbers() {
    let set = Set::new("clevr_counts", "filelist");
    let counts: Vec<String> = (3..=10).map(|n| format!("count_{n}")).collect();
    let counts: Vec<&str> = counts.iter().map(String::as_str).collect();
    let paths: Vec<String> = (3..=10).map(|n| format!("images/val/{n}.png")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    set.write("val_images.npy", &npy_texts(&paths));
    set.write("val_labels.npy", &npy_texts(&counts));
    let open = set.open();
    // '10' is the first label, then '3' to '9'.
    let targets: Vec<usize> = (0..8).map(|i| open.samples.target(i)).collect();
    assert_eq!(targets, [1, 2, 3, 4, 5, 6, 7, 0]);
    assert_eq!(open.matched, Matched::Published);
    assert_eq!(open.prompts.by_class[0], ["a photo of 10 objects."]);

    let numbers = |numbers: &[i64]| -> Vec<u8> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        npy("<i8", numbers.len(), &bytes)
    };
    set.write("val_labels.npy", &numbers(&[7, 6, 5, 4, 3, 2, 1, 0]));
    assert_eq!(set.open().samples.target(0), 7);

    set.write("val_labels.npy", &numbers(&[7, 6, 5, 4, 3, 2, 1, 8]));
    insta::assert_snapshot!(set.error(), @r"
    data: the class folders of 'clevr_counts' do not match its labels in rocket's own list:
      the list has label 8, but there are 8 labels, 0 to 7
    write indices of the labels
    ");
    set.write("val_labels.npy", &numbers(&[1, 2]));
    insta::assert_snapshot!(set.error(), @"data/val_labels.npy: has 2 labels, but data/val_images.npy has 8 images; write both from one list");
    set.write(
        "val_labels.npy",
        &npy_texts(&[&["count_2"][..], &counts[1..]].concat()),
    );
    insta::assert_snapshot!(set.error(), @r"
    data: the class folders of 'clevr_counts' do not match its labels in rocket's own list:
      no class for 1 folder: 'count_2'
      no folder for 1 class: 'count_3 (3)'
    remove what is too much, and add what is missing
    ");
    set.write("val_labels.npy", &npy("<f4", 1, &[0; 4]));
    insta::assert_snapshot!(set.error(), @"data/val_labels.npy: holds an array of dtype '<f4'; text or whole numbers, little-endian, are needed");
    set.write("val_images.npy", &numbers(&[1]));
    insta::assert_snapshot!(set.error(), @"data/val_images.npy: holds numbers where the paths of images belong; write an array of text");
    fs::remove_file(set.data().join("val_images.npy")).expect("removed");
    insta::assert_snapshot!(set.error(), @"catalog.json: entry 'clevr_counts': there is no file data/val_images.npy; make it with 'rocket-worker data prepare-eval clevr_counts SOURCE', or correct 'path' and 'test'");
}
