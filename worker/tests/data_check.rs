//! `rocket-worker data check` of an experiment's data: what is wrong is found, named and counted.

mod data_support;

use std::fs;
use std::path::Path;
use std::process::Command;

use data_support::{Folder, yfcc, zip};
use rocket_worker::data::npy_write::{DictsWriter, Field};
use rocket_worker::image::{Picture, decode};

const PHOTO: &[u8] = include_bytes!("golden/images/images/src/rgb420.jpg");
const PORTRAIT: &[u8] = include_bytes!("golden/images/images/src/rgb444_portrait.jpg");
/// The same picture as [`PHOTO`] in gray.
const GRAY: &[u8] = include_bytes!("golden/images/images/src/gray.jpg");
const PALETTE: &[u8] = include_bytes!("golden/images/images/src/palette.png");
const TINY: &[u8] = include_bytes!("golden/images/images/src/tiny.png");

/// A picture that looks like no other, as a PNG.
fn drawn(seed: u64) -> Vec<u8> {
    let (width, height, cell) = (120_u32, 90_u32, 15);
    let mut picture = Picture::black(width as usize, height as usize);
    for (index, pixel) in picture.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = (index as u64 % 120 / cell, index as u64 / 120 / cell);
        let mixed = (x + 31 * y + 1009 * seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        pixel.fill((mixed >> 40) as u8);
    }
    png(&picture)
}

fn png(picture: &Picture) -> Vec<u8> {
    let mut file = Vec::new();
    let (width, height) = (picture.width as u32, picture.height as u32);
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&picture.data).unwrap();
    writer.finish().unwrap();
    file
}

/// Name, file and captions of each sample.
type Sample<'a> = (&'a str, Option<Vec<u8>>, &'a [&'a str]);

/// Writes a cc3m data set, and an experiment on it.
fn write(folder: &Path, samples: &[Sample<'_>]) {
    fs::create_dir_all(folder.join("images")).unwrap();
    let count = samples.len() as u64;
    let mut npy = DictsWriter::new(Vec::new(), count, &["image_id", "captions"]).unwrap();
    for (name, file, captions) in samples {
        npy.add(&[Field::Text(name), Field::Texts(captions)])
            .unwrap();
        if let Some(file) = file {
            fs::write(folder.join("images").join(name), file).unwrap();
        }
    }
    fs::write(folder.join("train.npy"), npy.finish().unwrap()).unwrap();
    let experiment = "name: check\nmodel: {name: CL2L_R50_CL2L}\n\
        data: {dataset: cc3m, root: images, metadata: train.npy}\n\
        augment: {num_augs: 2}\ntrain: {epochs: 1}\n";
    fs::write(folder.join("exp.yaml"), experiment).unwrap();
}

struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(folder: &Path, args: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .args(["data", "check"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// Times and rates are different each time.
fn without_times(text: &str) -> String {
    let mut text: String = text
        .lines()
        .take_while(|line| !line.starts_with("decoding:"))
        .map(|line| format!("{line}\n"))
        .collect();
    if let Some(at) = text.find(", in ") {
        let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        text.replace_range(at..end, "");
    }
    text
}

fn good() -> Vec<Sample<'static>> {
    vec![
        ("a.jpg", Some(PHOTO.to_vec()), &["a photo"][..]),
        (
            "b.jpg",
            Some(PORTRAIT.to_vec()),
            &["a portrait", "tall"][..],
        ),
        ("c.png", Some(drawn(1)), &["squares"][..]),
    ]
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &good());
    let outcome = run(folder.path(), &["exp.yaml"]);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.out, outcome.err);
    insta::assert_snapshot!(without_times(&outcome.out));
    assert!(outcome.out.contains("together: "), "{}", outcome.out);
}

/// Every kind of problem, on samples of its own.
fn bad() -> Vec<Sample<'static>> {
    let mut samples = good();
    let mut bomb = PALETTE.to_vec();
    // 60,000 x 60,000 pixels in the header.
    bomb[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
    // The same picture as another file.
    let again = png(&decode(PHOTO).unwrap());
    samples.extend([
        ("missing.jpg", None, &["nothing"][..]),
        ("empty.jpg", Some(Vec::new()), &["no bytes"][..]),
        (
            "page.jpg",
            Some(b"<html>gone</html>".to_vec()),
            &["a page"][..],
        ),
        ("bomb.png", Some(bomb), &["a bomb"][..]),
        (
            "half.jpg",
            Some(PORTRAIT[..PORTRAIT.len() / 2].to_vec()),
            &["half"][..],
        ),
        ("tiny.png", Some(TINY.to_vec()), &["a dot"][..]),
        ("wordless.png", Some(drawn(2)), &[][..]),
        ("blank.png", Some(drawn(2)), &["", " \t"][..]),
        ("twin.jpg", Some(PHOTO.to_vec()), &["the photo again"][..]),
        ("alike.png", Some(again), &["the photo as a PNG"][..]),
    ]);
    samples
}

#[test]
fn everything_that_is_wrong_is_found_by_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &bad());
    let mut reports = Vec::new();
    for threads in ["1", "3"] {
        let outcome = run(
            folder.path(),
            &["exp.yaml", "--threads", threads, "--list", "bad.tsv"],
        );
        assert_eq!(outcome.code, Some(4), "{}", outcome.err);
        reports.push(without_times(&outcome.out));
    }
    assert_eq!(reports[0], reports[1]);
    insta::assert_snapshot!(reports[0]);
    let list = fs::read_to_string(folder.path().join("bad.tsv")).unwrap();
    insta::assert_snapshot!(list);

    // The same as JSON.
    let outcome = run(folder.path(), &["exp.yaml", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(report["samples"], 13);
    assert_eq!(report["checked"], 13);
    let counts: Vec<(&str, u64)> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| {
            (
                kind["problem"].as_str().unwrap(),
                kind["samples"].as_u64().unwrap(),
            )
        })
        .collect();
    let want = [
        ("missing", 1),
        ("broken", 3),
        ("truncated", 1),
        ("tiny", 1),
        ("captionless", 2),
        ("duplicate", 2),
        ("lookalike", 1),
    ];
    assert_eq!(counts, want);
    assert_eq!(report["throughput"]["reads"], 13);
    let bytes: u64 = bad()
        .iter()
        .filter_map(|(_, file, _)| Some(file.as_ref()?.len() as u64))
        .sum();
    assert_eq!(report["throughput"]["bytes"], bytes);
    // The mean is that of pictures: a page of HTML in a picture's place is none.
    let pictures = report["formats"].as_object().unwrap();
    let pictures: u64 = pictures.values().map(|count| count.as_u64().unwrap()).sum();
    let mean = report["mean_bytes"].as_f64().unwrap();
    assert!(mean * (pictures as f64) < bytes as f64, "{mean}");
}

#[test]
fn what_fails_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let mut samples = good();
    samples.push(("twin.jpg", Some(PHOTO.to_vec()), &["again"][..]));
    write(folder.path(), &samples);
    let code = |kinds: &str| run(folder.path(), &["exp.yaml", "--fail-on", kinds]).code;
    assert_eq!(run(folder.path(), &["exp.yaml"]).code, Some(4));
    assert_eq!(code("missing,broken"), Some(0));
    assert_eq!(code("missing,duplicate"), Some(4));
    assert_eq!(code("none"), Some(0));
    let outcome = run(folder.path(), &["exp.yaml", "--fail-on", "ugly"]);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.err.contains(
            "is none of missing, broken, truncated, tiny, captionless, duplicate, lookalike"
        ),
        "{}",
        outcome.err
    );
}

#[test]
fn a_sample_of_the_samples_is_chosen_by_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..200).map(|number| format!("{number}.jpg")).collect();
    let samples: Vec<Sample<'_>> = names
        .iter()
        .map(|name| (name.as_str(), None, &["x"][..]))
        .collect();
    write(folder.path(), &samples);
    let list = |seed: &str| {
        let args = [
            "exp.yaml", "--sample", "20", "--seed", seed, "--list", "bad.tsv",
        ];
        let outcome = run(folder.path(), &args);
        assert!(
            outcome.out.contains("200 samples, 20 of them checked"),
            "{}",
            outcome.out
        );
        fs::read_to_string(folder.path().join("bad.tsv")).unwrap()
    };
    let first = list("1");
    assert_eq!(first.lines().count(), 20);
    assert_eq!(first, list("1"));
    assert_ne!(first, list("2"));
}

/// Archives as strangers make them: each says in words what is wrong with it, and takes no memory to speak of.
#[test]
fn archives_that_are_missing_cut_or_bombs_are_named() {
    let folder = Folder::new();
    let zeros = vec![0; 300 << 20];
    let bomb = zip(&[("002.jpg+", &zeros)]);
    drop(zeros);
    assert!(bomb.len() < 1 << 20);
    let whole = zip(&[("001.jpg", PHOTO), ("002.jpg+", GRAY)]);
    folder.write("y/images/00/000.zip", &whole);
    folder.write("y/images/00/001.zip", &bomb);
    folder.write("y/images/00/002.zip", &whole[..whole.len() / 2]);
    folder.write("y/images/00/004.zip", zip(&[("../002.jpg", GRAY)]));
    let ids = [1, 2, 3, 1002, 2002, 3002, 4002];
    let list: Vec<(u32, &str, &str)> = ids.iter().map(|&id| (id, "title", "")).collect();
    folder.write("list.pkl", yfcc(&list));
    let flags = [
        "--dataset",
        "yfcc15m",
        "--root",
        "y",
        "--metadata",
        "list.pkl",
        "--threads",
        "1",
    ];
    let outcome = run(&folder.path("."), &flags);
    assert_eq!(outcome.code, Some(4), "{}", outcome.err);
    insta::assert_snapshot!(without_times(&outcome.out));
}

/// A read that never ends, as of a dead network file system (here of a pipe that nobody writes to).
#[test]
fn a_file_system_that_does_not_answer_is_named() {
    let folder = Folder::new();
    folder.write("images/a.jpg", PHOTO);
    let pipe = folder.path("images/dead.jpg");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    folder.write("list.tsv", "a.jpg\tx\ndead.jpg\tx\n");
    let flags = [
        "--dataset",
        "filelist",
        "--root",
        "images",
        "--metadata",
        "list.tsv",
        "--set",
        "data.read_timeout_seconds=1",
    ];
    let outcome = run(&folder.path("."), &flags);
    // Not one of the codes for bad data: on another machine it may be well.
    assert_eq!(outcome.code, Some(1), "{}", outcome.out);
    insta::assert_snapshot!(outcome.err, @"error: images/dead.jpg: nothing came of it for 1 s (data.read_timeout_seconds): its file system does not answer; is the mount alive?");
}

#[test]
fn a_sheet_shows_samples_with_their_views() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &bad());
    let args = ["exp.yaml", "--sheet", "sheet.png", "--sheet-samples", "13"];
    let outcome = run(folder.path(), &args);
    assert_eq!(outcome.code, Some(4), "{}", outcome.err);
    let first = fs::read(folder.path().join("sheet.png")).unwrap();
    let sheet = decode(&first).unwrap();
    // An image and three views, beside them the captions; a card of more than 200 pixels for each.
    assert!(
        sheet.width > 4 * 192 + 400 && sheet.height > 13 * 200,
        "{} x {}",
        sheet.width,
        sheet.height
    );
    let colours: std::collections::HashSet<&[u8]> = sheet.data.chunks_exact(3).collect();
    assert!(colours.len() > 5000, "{} colours", colours.len());
    run(folder.path(), &args);
    assert!(
        first == fs::read(folder.path().join("sheet.png")).unwrap(),
        "the same sheet again"
    );
}

#[test]
fn a_data_set_can_be_described_by_flags() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &good());
    let flags = [
        "--dataset",
        "cc3m",
        "--root",
        "images",
        "--metadata",
        "train.npy",
    ];
    let outcome = run(folder.path(), &flags);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);

    let error = |args: &[&str]| {
        let outcome = run(folder.path(), args);
        format!("{} {}", outcome.code.unwrap_or(-1), outcome.err)
    };
    insta::assert_snapshot!("no_data_set", error(&[]));
    insta::assert_snapshot!("both", error(&[&["exp.yaml"][..], &flags[..]].concat()));
    insta::assert_snapshot!("no_such_experiment", error(&["nothing.yaml"]));
    insta::assert_snapshot!(
        "no_such_format",
        error(&[
            "--dataset",
            "cc4m",
            "--root",
            "images",
            "--metadata",
            "train.npy"
        ])
    );
    insta::assert_snapshot!(
        "no_metadata",
        error(&["exp.yaml", "--set", "data.metadata=other.npy"])
    );
}
