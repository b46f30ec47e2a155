//! The published sets: their lists, their binary formats, file lists, and folders as they come.

mod eval_support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use eval_support::{image_folder, no_decode, write_json};
use rocket_worker::eval::classes::Matched;
use rocket_worker::eval::{
    Catalog, EvalError, EvalSet, Labels, Split, Templates, published, special,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One set `name` in `data`, with published labels and prompts unless a file is written.
struct Set {
    dir: TempDir,
    name: &'static str,
}

impl Set {
    fn new(name: &'static str, kind: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let entry = json!({"path": "data", "type": kind, "train": "train", "test": "val"});
        write_json(&dir.path().join("catalog.json"), &json!({name: entry}));
        fs::create_dir_all(dir.path().join("data")).expect("created");
        Self { dir, name }
    }

    fn labels(self, labels: &Value) -> Self {
        write_json(
            &self.dir.path().join("labels.json"),
            &json!({self.name: labels}),
        );
        self
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        let path = self.data().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, bytes).expect("written");
    }

    fn open_split(&self, split: Split) -> Result<EvalSet, EvalError> {
        let at = |file: &str| self.dir.path().join(file);
        EvalSet::open_split(
            self.name,
            split,
            &Catalog::load(&at("catalog.json"), self.dir.path())?,
            &Labels::load_if_there(&at("labels.json"))?,
            &Templates::load_if_there(&at("templates.json"))?,
            no_decode(),
        )
    }

    fn open(&self) -> EvalSet {
        self.open_split(Split::Test)
            .unwrap_or_else(|e| panic!("{e}"))
    }

    fn error(&self) -> String {
        let error = self.open_split(Split::Test).err().expect("an error");
        error
            .to_string()
            .replace(&format!("{}/", self.dir.path().display()), "")
            .replace(&self.dir.path().display().to_string(), "[DIR]")
    }

    /// First colour of each image, and its class.
    fn read(&self, split: Split) -> Vec<([u8; 3], usize)> {
        let at = |file: &str| self.dir.path().join(file);
        let images = special::read(&at("catalog.json"), self.name, &self.data(), split)
            .unwrap_or_else(|e| panic!("{e}"));
        (0..images.len())
            .map(|i| {
                let data = images.picture(i).data;
                ([data[0], data[1], data[2]], images.labels()[i])
            })
            .collect()
    }
}

#[test]
fn the_published_lists_are_whole() {
    let none = Path::new("/nowhere/labels.json");
    let labels = Labels::load_if_there(none).expect("labels");
    let templates = Templates::load_if_there(none).expect("templates");
    let mut table = String::new();
    for set in published::names() {
        let (names, _) = labels.of(set).expect("names");
        let (prompts, _) = templates.of(set).expect("prompts");
        let facts = published::facts(set).expect("facts");
        let folders = facts.folders.as_ref();
        assert!(folders.is_none_or(|f| f.len() == names.len()), "{set}");
        table += &format!(
            "{set} {} classes {} prompts {} + {} images\n",
            names.len(),
            prompts.len(),
            facts.images.train,
            facts.images.test
        );
    }
    insta::assert_snapshot!(table, @r"
    imagenet 1000 classes 80 prompts 1281167 + 50000 images
    mnist 10 classes 1 prompts 60000 + 10000 images
    food101 101 classes 1 prompts 75750 + 25250 images
    cifar10 10 classes 18 prompts 50000 + 10000 images
    cifar100 100 classes 18 prompts 50000 + 10000 images
    cub200 200 classes 1 prompts 5994 + 5794 images
    cars 196 classes 8 prompts 8144 + 8041 images
    aircraft 100 classes 2 prompts 3334 + 3333 images
    dtd 47 classes 8 prompts 1880 + 1880 images
    pets 37 classes 1 prompts 3680 + 3669 images
    caltech101 102 classes 34 prompts 3060 + 6085 images
    flowers 102 classes 1 prompts 2040 + 6149 images
    stl10 10 classes 2 prompts 5000 + 8000 images
    eurosat 10 classes 3 prompts 10000 + 5000 images
    resisc45 45 classes 18 prompts 25200 + 6300 images
    gtsrb 43 classes 3 prompts 26640 + 12630 images
    kitti_distance 4 classes 1 prompts 5985 + 1496 images
    country211 211 classes 5 prompts 31650 + 21100 images
    patch_camelyon 2 classes 1 prompts 262144 + 32768 images
    ucf101_frames 101 classes 48 prompts 9537 + 3783 images
    clevr_counts 8 classes 1 prompts 70000 + 15000 images
    hateful_memes 2 classes 1 prompts 8500 + 500 images
    rendered_sst2 2 classes 1 prompts 6920 + 1821 images
    ");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let catalog = Catalog::load(&repository.join("dataset_catalog.json"), &repository);
    let catalog = catalog.expect("the repository's catalog");
    let entries: Vec<&str> = catalog.entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(entries, published::names().collect::<Vec<_>>());
}

/// Each set's folders, as published, open without any list of the user's, and each in its place.
#[test]
fn folders_of_every_published_set_find_their_labels() {
    for set in published::names() {
        if special::SETS.contains(&set) {
            continue;
        }
        let this = Set::new(set, "imagefolder");
        let names = published::class_names(set).expect("names");
        let folders: Vec<String> = match &published::facts(set).expect("facts").folders {
            Some(folders) => folders.clone(),
            None => names.iter().map(|n| n.replace([' ', '/'], "_")).collect(),
        };
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        image_folder(&this.data().join("val"), &folders);
        let open = this.open();
        assert_ne!(open.matched, Matched::SortedOrder, "{set}");
        // One image per folder, in sorted order of the folders.
        let mut sorted: Vec<(&str, usize)> = folders.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        let targets: Vec<usize> = (0..names.len()).map(|i| open.samples.target(i)).collect();
        assert_eq!(
            targets,
            sorted.iter().map(|s| s.1).collect::<Vec<_>>(),
            "{set}"
        );
    }
}

/// As VISSL's scripts and archives name folders: the numbers of flowers unpadded, birds numbered,
/// aircraft with signs replaced (three of which sort otherwise than their names).
#[test]
fn other_ways_to_write_folders_find_their_labels_too() {
    let flowers = Set::new("flowers", "imagefolder");
    let numbers: Vec<String> = (1..=102).map(|i| i.to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    image_folder(&flowers.data().join("val"), &numbers);
    let open = flowers.open();
    assert_eq!(open.matched, Matched::Published);
    // '1', '10', '100', ...
    assert_eq!([0, 1, 2].map(|i| open.samples.target(i)), [0, 9, 99]);

    let birds = Set::new("cub200", "imagefolder");
    let names = published::class_names("cub200").expect("names");
    let folders: Vec<String> = names
        .iter()
        .zip(1..)
        .map(|(name, i)| format!("{i:03}.{}", name.replace(' ', "_")))
        .collect();
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    image_folder(&birds.data().join("val"), &folders);
    let open = birds.open();
    assert_eq!(open.matched, Matched::ByName);
    assert!((0..200).all(|i| open.samples.target(i) == i));

    let aircraft = Set::new("aircraft", "imagefolder");
    let names = published::class_names("aircraft").expect("names");
    let folders: Vec<String> = names.iter().map(|n| n.replace([' ', '/'], "-")).collect();
    let mut folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    image_folder(&aircraft.data().join("val"), &folders);
    let open = aircraft.open();
    assert_eq!(open.matched, Matched::ByName);
    folders.sort_unstable();
    let at = folders.iter().position(|f| *f == "BAE-125").expect("there");
    assert_eq!(names[open.samples.target(at)], "BAE-125");
}

#[test]
fn what_does_not_fit_a_published_set_is_refused_with_the_difference() {
    let codes = |set: &str| {
        published::facts(set)
            .and_then(|f| f.folders.clone())
            .expect("folders")
    };
    let extra = Set::new("gtsrb", "imagefolder");
    let mut folders = codes("gtsrb");
    folders.push("00043".to_owned());
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    image_folder(&extra.data().join("val"), &folders);
    insta::assert_snapshot!(extra.error(), @r"
    data/val: the class folders of 'gtsrb' do not match its labels in rocket's own list:
      44 class folders, but 43 classes
      no class for 1 folder: '00043'
    remove what is too much, and add what is missing
    ");

    let missing = Set::new("kitti_distance", "imagefolder");
    image_folder(
        &missing.data().join("val"),
        &["above_20", "below_8", "no_vehicle"],
    );
    insta::assert_snapshot!(missing.error(), @r"
    data/val: the class folders of 'kitti_distance' do not match its labels in rocket's own list:
      3 class folders, but 4 classes
      no folder for 1 class: 'below_20 (a photo i took with a car nearby.)'
    remove what is too much, and add what is missing
    ");

    let empty = Set::new("patch_camelyon", "imagefolder");
    image_folder(&empty.data().join("val"), &["no_tumor", "tumor"]);
    fs::remove_file(empty.data().join("val/tumor/0.jpg")).expect("removed");
    insta::assert_snapshot!(empty.error(), @"data/val: no image in a class folder of 'patch_camelyon': tumor; add images (.jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp) or remove the class from folders and labels");

    // The right number of labels, but another set's.
    let other = Set::new("stl10", "special").labels(&json!(published::class_names("cifar10")));
    stl10(&other, "test", &[1, 10]);
    insta::assert_snapshot!(other.error(), @r"
    data: the class folders of 'stl10' do not match its labels in labels.json:
      label 2 is 'bird', but class 2 of the set is 'car' and 'bird' is class 1
      label 7 is 'horse', but class 7 of the set is 'monkey' and 'horse' is class 6
    give the labels in the set's own order
    ");
    let other = Set::new("eurosat", "imagefolder").labels(&json!([
        "forest",
        "annual crop land",
        "brushland",
        "highway",
        "industry",
        "pasture",
        "orchards",
        "homes",
        "river",
        "lake"
    ]));
    let folders = codes("eurosat");
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    image_folder(&other.data().join("val"), &folders);
    insta::assert_snapshot!(other.error(), @r"
    data/val: the class folders of 'eurosat' do not match its labels in labels.json:
      label 0 is 'forest', but class 0 of the set is 'annual crop land' and 'forest' is class 1
      label 1 is 'annual crop land', but class 1 of the set is 'forest' and 'annual crop land' is class 0
    give the labels in the set's own order
    ");
}

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

fn stl10(set: &Set, split: &str, labels: &[u8]) {
    // A column of ones at the left of each plane: columns come first.
    let plane = [vec![1; 96], vec![0; 95 * 96]].concat();
    let image = [plane.clone(), plane.clone(), plane].concat();
    set.write(
        &format!("stl10_binary/{split}_X.bin"),
        &image.repeat(labels.len()),
    );
    set.write(&format!("stl10_binary/{split}_y.bin"), labels);
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
    insta::assert_snapshot!(set.error(), @"data/val_images.npy: cannot read this file of an evaluation set: No such file or directory (os error 2)");
}
