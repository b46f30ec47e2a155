//! Metadata files: what is read, and what is refused in words.

use std::path::{Path, PathBuf};

use rocket_common::experiment::{Data, Dataset};
use rocket_worker::data::pickle::{Elements, Pickle};
use rocket_worker::data::source;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/cc")
        .join(name)
}

fn open(dataset: Dataset, metadata: &Path) -> Result<Vec<(String, Vec<String>)>, String> {
    let data = Data {
        dataset,
        root: fixture("images"),
        metadata: metadata.to_owned(),
        ..Data::default()
    };
    let source = source::open(&data).map_err(|error| error.to_string())?;
    Ok((0..source.len())
        .map(|sample| {
            let captions = source.captions(sample);
            (
                source.name(sample),
                captions.into_iter().map(str::to_owned).collect(),
            )
        })
        .collect())
}

/// The message without the folder it names.
fn refusal(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    let message = open(Dataset::Cc3m, &file).unwrap_err();
    message.replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn every_protocol_and_both_sets_read_the_same() {
    let want: Vec<(String, Vec<String>)> = (0..6)
        .map(|i| {
            let mut captions = vec![format!("caption {i} of many")];
            captions.extend((i % 2 == 1).then(|| "Übersicht \"zwei\"".to_owned()));
            (format!("{i:02}.jpg"), captions)
        })
        .collect();
    for protocol in 2..=5 {
        let file = fixture(&format!("cc3m_protocol{protocol}.npy"));
        assert_eq!(
            open(Dataset::Cc3m, &file).unwrap(),
            want,
            "protocol {protocol}"
        );
    }
    assert_eq!(open(Dataset::Cc12m, &fixture("cc12m.npy")).unwrap(), want);
}

#[test]
fn wrong_files_are_refused_in_words() {
    let good = std::fs::read(fixture("cc3m_protocol4.npy")).unwrap();
    insta::assert_snapshot!(refusal("text.npy", b"image,caption\n"), @"DIR/text.npy is not an npy file: it begins with 'image,ca', not with the bytes of numpy's format; write it with numpy.save");
    insta::assert_snapshot!(refusal("empty.npy", b""), @"DIR/empty.npy is not an npy file: it begins with nothing (the file is empty), not with the bytes of numpy's format; write it with numpy.save");
    insta::assert_snapshot!(refusal("head.npy", &good[..40]), @"DIR/head.npy is not a whole npy file: it ends after 40 bytes, inside of the header");
    insta::assert_snapshot!(refusal("cut.npy", &good[..good.len() - 30]), @"DIR/cut.npy holds no data that can be read: the pickle ends in the middle (byte 404)");
    let numbers = std::fs::read(fixture("numbers.npy")).unwrap();
    insta::assert_snapshot!(refusal("numbers.npy", &numbers), @"DIR/numbers.npy holds an array of dtype '<i8'; an array of objects (dicts) is needed");
    let dangerous = std::fs::read(fixture("dangerous.npy")).unwrap();
    insta::assert_snapshot!(refusal("dangerous.npy", &dangerous), @"DIR/dangerous.npy holds no data that can be read: the pickle calls for 'posix.system' (byte 174), which is refused: only numpy arrays, dicts, lists, tuples, text and numbers are read, and no code is run");
}

#[test]
fn a_missing_key_names_the_sample() {
    let message = open(Dataset::Cc12m, &fixture("cc3m_protocol4.npy")).unwrap_err();
    assert!(
        message.ends_with("cc3m_protocol4.npy: sample 0: has no 'image_name'"),
        "{message}"
    );
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    let mut bytes = std::fs::read(fixture("cc3m_protocol4.npy")).unwrap();
    let at = bytes
        .windows(6)
        .position(|window| window == b"00.jpg")
        .unwrap();
    bytes[at..at + 6].copy_from_slice(b"../jpg");
    let message = refusal("out.npy", &bytes);
    assert_eq!(
        message,
        "DIR/out.npy: sample 0: the image's name '../jpg' leads out of the folder"
    );
}

#[test]
fn missing_files_and_folders_are_named() {
    let mut data = Data {
        root: "/nowhere/images".into(),
        metadata: fixture("cc3m_protocol4.npy"),
        ..Data::default()
    };
    let message = source::open(&data).err().unwrap().to_string();
    assert_eq!(
        message,
        "/nowhere/images: the folder of the images is missing; check data.root"
    );
    data.metadata = "/nowhere/x.npy".into();
    let message = source::open(&data).err().unwrap().to_string();
    assert!(
        message.starts_with("/nowhere/x.npy: cannot read the metadata:"),
        "{message}"
    );
}

proptest::proptest! {
    /// Whatever the bytes are: an error or a value, no panic, no memory beyond the file's order.
    #[test]
    fn any_bytes_are_survived(start in 0usize..560, flips in proptest::collection::vec((0usize..560, 0u8..=255), 1..6), cut in 0usize..560) {
        let good = include_bytes!("golden/cc/cc3m_protocol4.npy");
        let mut bytes = good[start.min(128)..].to_vec();
        for (at, value) in flips {
            let len = bytes.len();
            bytes[at % len] = value;
        }
        bytes.truncate(bytes.len().min(cut));
        let _ = Pickle::read(&bytes).map(|pickle| pickle.items(pickle.root()).map(<[_]>::len));
        for keep_all in [false, true] {
            let elements = Elements::new(&bytes);
            let elements = if keep_all { elements.keep_all() } else { elements };
            let _ = elements.each(|heap, cell, _| {
                let captions = heap.get(cell, "captions").and_then(|captions| heap.items(captions));
                for &caption in captions.unwrap_or_default() {
                    let _ = (heap.text(caption), heap.int(caption));
                }
                Ok(())
            });
        }
    }
}
