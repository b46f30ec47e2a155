//! Every format of training data: which samples it has, and where their images are.

mod data_support;

use std::fs;
use std::sync::Arc;

use data_support::{Folder, golden, listing, npy, open, tar, yfcc, zip};
use rocket_common::experiment::{CaptionSampling, Data, Dataset, Text};
use rocket_worker::data::source::{Place, Source};
use rocket_worker::text::CaptionViews;

/// Archives for the golden list: a stored and a deflated member, one that is absent, an archive that is not
/// there.
fn yfcc_images(folder: &Folder) {
    let bytes = zip(&[
        ("678.jpg", b"six hundred and seventy-eight"),
        ("notes.txt", b"no image"),
        ("000.jpg+", b"zero zero zero zero zero zero zero zero"),
    ]);
    folder.write("yfcc/images/12/345.zip", bytes);
    folder.write("yfcc/images/99/999.zip", zip(&[("999.jpg", b"the last")]));
}

#[test]
fn yfcc15m_is_a_pickle_and_zip_archives() {
    let folder = Folder::new();
    yfcc_images(&folder);
    let mut first = None;
    for protocol in 2..=5 {
        let data = Data {
            metadata: golden(&format!("lists/yfcc15m_protocol{protocol}.pkl")),
            ..folder.data(Dataset::Yfcc15m, "yfcc", "")
        };
        let listing = folder.plain(&listing(&*open(&data).unwrap()));
        let first = first.get_or_insert_with(|| listing.clone());
        assert_eq!(&listing, first, "protocol {protocol}");
    }
    insta::assert_snapshot!(first.unwrap());
}

#[test]
fn joined_lists_keep_their_order() {
    let folder = Folder::new();
    yfcc_images(&folder);
    folder.write("cc3m/00.jpg", "cc3m's first");
    folder.write("cc12m/00.jpg", "cc12m's first");
    let paths = |of: [String; 3]| of.join("---").into();
    let data = Data {
        dataset: Dataset::MergedOpendata,
        root: paths(["cc3m", "cc12m", "yfcc"].map(|name| folder.path(name).display().to_string())),
        metadata: paths(
            [
                "cc/cc3m_protocol4.npy",
                "cc/cc12m.npy",
                "lists/yfcc15m_protocol4.pkl",
            ]
            .map(|name| golden(name).display().to_string()),
        ),
        ..Data::default()
    };
    insta::assert_snapshot!(folder.plain(&listing(&*open(&data).unwrap())));
}

#[test]
fn what_samples_share_in_a_pickle_is_read_for_each() {
    let data = Data {
        dataset: Dataset::Cc3m,
        root: golden("cc/images"),
        metadata: golden("lists/shared.npy"),
        ..Data::default()
    };
    let source = open(&data).unwrap();
    assert_eq!(source.len(), 1502);
    for sample in 0..source.len() {
        assert_eq!(
            source.captions(sample),
            ["a photo of it", "a drawing of it"]
        );
    }
    assert_eq!(source.name(1499), "1499.jpg");
    assert_eq!(source.name(1500), "03.jpg");
    assert_eq!(source.name(1501), "04.jpg");
    let one = Data {
        metadata: golden("lists/one.npy"),
        ..data
    };
    let one = open(&one).unwrap();
    assert_eq!((one.len(), one.name(0).as_str()), (1, "3"));
}

#[test]
fn coco_and_redcaps_are_json() {
    let folder = Folder::new();
    folder.write("coco/train2017/000000000009.jpg", "nine");
    folder.write("red/cats/a1.jpg", "a cat");
    folder.write("coco.json", r#"{"info": {"a": [1, {}]}, "annotations": [
        {"image_id": 9, "id": 1, "caption": "A plate."}, {"image_id": 25, "id": 2, "caption": "A giraffe."},
        {"image_id": 9, "id": 3, "caption": "Food \"on\" it."}], "licenses": []}"#);
    folder.write(
        "red.json",
        r#"[{"image_id": "a1", "subreddit": "cats", "caption": "my cat", "url": null},
        {"image_id": "b2", "subreddit": "dogs", "caption": ""}]"#,
    );
    let mut all = String::new();
    for data in [
        folder.data(Dataset::Coco, "coco", "coco.json"),
        folder.data(Dataset::Redcaps, "red", "red.json"),
    ] {
        all.push_str(&folder.plain(&listing(&*open(&data).unwrap())));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn webdataset_shards_are_read_by_their_members() {
    let folder = Folder::new();
    let long = "a/".repeat(80) + "long.jpg";
    folder.write(
        "s-00.tar",
        tar(&[
            ("0001.jpg", b"one"),
            ("0001.txt", b"the first\n"),
            ("0001.json", br#"{"caption": "not this"}"#),
            ("0002.json", br#"{"captions": ["two", "zwei"], "width": 3}"#),
            ("0002.PNG", b"two"),
            ("0003.txt", b"a caption without an image"),
            ("dir.v2/0004.webp", b"four"),
            (&long, b"a long name"),
        ]),
    );
    folder.write(
        "s-01.tar",
        tar(&[("0001.jpeg", b"one again"), ("0001.txt", b"")]),
    );
    let data = folder.data(Dataset::Webdataset, "", "s-{00..01}.tar");
    let source = open(&data).unwrap();
    insta::assert_snapshot!(folder.plain(&listing(&*source)));
    let place: Place = source.place(0).unwrap();
    assert_eq!(place.member.unwrap().len(), 3);
}

/// A file with two endings is neither the image nor the caption of its sample.
#[test]
fn the_ending_in_a_shard_is_all_after_the_first_dot() {
    let folder = Folder::new();
    folder.write(
        "s.tar",
        tar(&[
            ("000.depth.png", b"depth"),
            ("000.jpg", b"image"),
            ("000.txt", b"a caption"),
            ("000.zh.txt", b"another"),
        ]),
    );
    let source = open(&folder.data(Dataset::Webdataset, "", "s.tar")).unwrap();
    assert_eq!(listing(&*source), "s.tar/000.jpg: a caption: image\n");
}

/// Python writes NaN into JSON, which has no such number.
#[test]
fn json_that_is_not_needed_is_not_read() {
    let folder = Folder::new();
    let json: &[u8] = br#"{"caption": "not this", "similarity": NaN}"#;
    let (image, text): (&[u8], &[u8]) = (b"image", b"a caption");
    folder.write(
        "both.tar",
        tar(&[("1.jpg", image), ("1.json", json), ("1.txt", text)]),
    );
    let source = open(&folder.data(Dataset::Webdataset, "", "both.tar")).unwrap();
    assert_eq!(listing(&*source), "both.tar/1.jpg: a caption: image\n");
    folder.write("json.tar", tar(&[("1.jpg", image), ("1.json", json)]));
    let said = folder.refusal(&folder.data(Dataset::Webdataset, "", "json.tar"));
    assert!(
        said.starts_with("DIR/json.tar holds '1.json', which is no JSON: "),
        "{said}"
    );
}

#[test]
fn folders_and_lists_of_files_are_training_sets() {
    let folder = Folder::new();
    for (name, bytes) in [
        ("f/red_fox/b.jpg", "b"),
        ("f/red_fox/a.PNG", "a"),
        ("f/red_fox/deep/c.webp", "c"),
        ("f/red_fox/notes.txt", "no image"),
        ("f/owl/d.jpg", "d"),
    ] {
        folder.write(name, bytes);
    }
    folder.write("names.json", r#"{"owl": ["an owl", "a bird"]}"#);
    folder.write(
        "list.tsv",
        "owl/d.jpg\tan owl\r\n\nred_fox/a.PNG\ta fox\tone more\n",
    );
    folder.write(
        "list.jsonl",
        "{\"file_name\": \"owl/d.jpg\", \"text\": \"an owl\"}\n{\"image\": \"red_fox/b.jpg\", \"captions\": [\"x\", \"y\"]}\n",
    );
    let mut all = String::new();
    for data in [
        Data {
            metadata: "".into(),
            ..folder.data(Dataset::Imagefolder, "f", "")
        },
        folder.data(Dataset::Imagefolder, "f", "names.json"),
        folder.data(Dataset::Filelist, "f", "list.tsv"),
        folder.data(Dataset::Filelist, "f", "list.jsonl"),
    ] {
        all.push_str(&listing(&*open(&data).unwrap()));
        all.push('\n');
    }
    insta::assert_snapshot!(all);
}

/// The reference draws one caption for all views (single), or one for each (multi).
#[test]
fn captions_are_drawn_once_or_for_each_view() {
    let folder = Folder::new();
    yfcc_images(&folder);
    let data = Data {
        metadata: golden("lists/yfcc15m_protocol4.pkl"),
        ..folder.data(Dataset::Yfcc15m, "yfcc", "")
    };
    let source: Arc<dyn Source> = open(&data).unwrap();
    let text = Text {
        remove_stopwords_prob: 0.0,
        ..Text::default()
    };
    let drawn = |sampling| -> Vec<Vec<String>> {
        let views = CaptionViews::new(&text, sampling, 2).unwrap();
        (0..40)
            .map(|epoch| views.texts(&source.captions(0), 1, epoch, 0))
            .collect()
    };
    let single = drawn(CaptionSampling::Single);
    assert!(
        single
            .iter()
            .all(|views| views[0] == views[1] && views[1] == views[2])
    );
    let firsts: std::collections::BTreeSet<&String> =
        single.iter().map(|views| &views[0]).collect();
    assert_eq!(firsts.len(), 2, "title and description are drawn");
    let multi = drawn(CaptionSampling::Multi);
    assert!(multi.iter().any(|views| views[0] != views[1]));
    assert_eq!(
        multi,
        drawn(CaptionSampling::Multi),
        "the same numbers, the same captions"
    );
    // An image without either has the empty caption.
    assert_eq!(source.captions(3), [""]);
}

#[test]
fn wrong_lists_are_one_clear_error() {
    let folder = Folder::new();
    yfcc_images(&folder);
    fs::create_dir_all(folder.path("images")).unwrap();
    let mut all = Vec::new();
    let mut refuse =
        |name: &str, data: &Data| all.push(format!("{name}: {}", folder.refusal(data)));
    let list = |name: &str, bytes: &[u8]| {
        folder.write(name, bytes);
        name.to_owned()
    };
    let good = yfcc(&[(12345678, "t", "d")]);
    let cases: Vec<(&str, Dataset, Vec<u8>)> = vec![
        (
            "a.pkl",
            Dataset::Yfcc15m,
            b"\x80\x04cos\nsystem\n(X\x04\0\0\0trueo.".to_vec(),
        ),
        ("cut.pkl", Dataset::Yfcc15m, good[..good.len() - 4].to_vec()),
        (
            "dict.pkl",
            Dataset::Yfcc15m,
            fs::read(golden("lists/dict.pkl")).unwrap(),
        ),
        (
            "pair.pkl",
            Dataset::Yfcc15m,
            b"\x80\x04](K\x01K\x02\x86e.".to_vec(),
        ),
        ("id.pkl", Dataset::Yfcc15m, yfcc(&[(100_000_000, "t", "d")])),
        (
            "nul.pkl",
            Dataset::Yfcc15m,
            yfcc(&[(1, "t", "d"), (12345678, "a\0b", "")]),
        ),
        // numpy's text `a\0b`, which was once taken for `a`.
        ("numpy.pkl", Dataset::Yfcc15m, [
            b"\x80\x04](J\x4e\x61\xbc\0cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\0\0\0U3\x89\x88\x87R".as_slice(),
            b"(K\x03X\x01\0\0\0<NNNJ\x0c\0\0\0J\x04\0\0\0K\x08tb",
            b"C\x0ca\0\0\0\0\0\0\0b\0\0\0\x86RX\0\0\0\0\x87e.",
        ].concat()),
        ("nowhere.pkl", Dataset::Yfcc15m, yfcc(&[(1, "t", "d")])),
        ("empty.pkl", Dataset::Yfcc15m, b"\x80\x04].".to_vec()),
        (
            "up.npy",
            Dataset::Cc3m,
            npy(&[("../x.jpg", vec!["x".into()])]),
        ),
        (
            "a.json",
            Dataset::Coco,
            br#"{"annotations": [{"image_id": 1}]}"#.to_vec(),
        ),
        ("b.json", Dataset::Coco, br#"{"images": []}"#.to_vec()),
        (
            "c.json",
            Dataset::Redcaps,
            br#"[{"image_id": "a", "subreddit": "../..", "caption": "x"}]"#.to_vec(),
        ),
        (
            "d.json",
            Dataset::Redcaps,
            br#"[{"image_id": "a", "#.to_vec(),
        ),
        ("a.tsv", Dataset::Filelist, b"x.jpg\tok\ny.jpg\n".to_vec()),
        ("b.tsv", Dataset::Filelist, b"/etc/passwd\tx\n".to_vec()),
        ("c.jsonl", Dataset::Filelist, b"{\"caption\": 3}\n".to_vec()),
    ];
    for (name, dataset, bytes) in cases {
        let root = if dataset == Dataset::Yfcc15m {
            "yfcc"
        } else {
            "images"
        };
        refuse(name, &folder.data(dataset, root, &list(name, &bytes)));
    }
    let whole = tar(&[("1.jpg", &[7; 900]), ("1.txt", b"x")]);
    for (name, bytes) in [
        ("cut.tar", whole[..1000].to_vec()),
        ("end.tar", whole[..2560].to_vec()),
        ("zipped.tar", b"\x1f\x8b\x08".repeat(400)),
        ("up.tar", tar(&[("../1.jpg", b"x")])),
        ("nul.tar", tar(&[("1.jpg", b"x"), ("1.txt", b"a\0b")])),
    ] {
        folder.write(name, bytes);
        refuse(name, &folder.data(Dataset::Webdataset, "", name));
    }
    refuse(
        "pattern",
        &folder.data(Dataset::Webdataset, "", "{3..1}.tar"),
    );
    refuse(
        "absent",
        &folder.data(Dataset::Webdataset, "", "absent.tar"),
    );
    folder.write("names.json", r#"{"cat": "a cat"}"#);
    folder.write("f/dog/1.jpg", "x");
    refuse(
        "stray",
        &folder.data(Dataset::Imagefolder, "f", "names.json"),
    );
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn broken_archives_name_what_is_wrong_when_they_are_read() {
    let folder = Folder::new();
    let good = zip(&[("001.jpg", b"one"), ("002.jpg+", &[b'2'; 5000])]);
    // The directory says that the second member has other sizes.
    let at = good
        .windows(4)
        .rposition(|bytes| bytes == b"PK\x01\x02")
        .unwrap();
    let with = |raw: u32| {
        let mut bytes = good.clone();
        bytes[at + 24..at + 28].copy_from_slice(&raw.to_le_bytes());
        bytes
    };
    let mut overlapping = good.clone();
    overlapping[at + 42..at + 46].copy_from_slice(&3u32.to_le_bytes());
    for (archive, bytes) in [
        ("00/000", good.clone()),
        ("00/001", with(1 << 30)),
        ("00/002", with(100)),
        ("00/003", with(6000)),
        ("00/004", good[..good.len() - 10].to_vec()),
        ("00/005", zip(&[("../002.jpg", b"x")])),
        ("00/006", overlapping),
        ("00/007", Vec::new()),
    ] {
        folder.write(&format!("y/images/{archive}.zip"), bytes);
    }
    let samples: Vec<(u32, &str, &str)> = (0..8)
        .map(|archive| (archive * 1000 + 2, "t", ""))
        .collect();
    folder.write("list.pkl", yfcc(&samples));
    let source = open(&folder.data(Dataset::Yfcc15m, "y", "list.pkl")).unwrap();
    insta::assert_snapshot!(
        folder
            .plain(&listing(&*source))
            .replace(&"2".repeat(5000), "5000 bytes")
    );
}
