//! `rocket-worker data prepare` and `data make-yfcc15m`, as people run them.

mod data_support;

use std::fs;
use std::process::Command;

use data_support::{Folder, golden, listing, npy, open, tar, yfcc, zip};
use rocket_common::experiment::Dataset;
use rocket_worker::data::pickle::Elements;

/// Standard output and error of `rocket-worker data ...`, run in the folder, with its exit code.
fn data(folder: &Folder, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .arg("data")
        .args(args)
        .current_dir(folder.path("."))
        .output()
        .unwrap();
    let code = output.status.code().unwrap();
    let said =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    // How long it took is no matter of this test.
    let said: String = said
        .lines()
        .map(|line| match line.split_once(" MB, in ") {
            Some((before, _)) => format!("{before} MB, in ...\n"),
            None => format!("{line}\n"),
        })
        .collect();
    format!(
        "$ data {}\n{}exit {code}\n",
        args.join(" "),
        folder.plain(&said)
    )
}

#[test]
fn a_set_is_prepared_once_and_verified() {
    let folder = Folder::new();
    let archive = zip(&[("001.jpg", b"one"), ("002.jpg+", &[b'2'; 500])]);
    folder.write("y/images/00/000.zip", archive);
    folder.write("y/images/00/001.zip", b"no archive");
    folder.write(
        "list.pkl",
        yfcc(&[
            (1, "one", "of two"),
            (2, "two", ""),
            (3, "", ""),
            (1001, "x", ""),
            (2001, "y", ""),
        ]),
    );
    folder.write(
        "exp.yaml",
        "name: x\nmodel: {name: CL2L_R50_CL2L}\ndata: {dataset: yfcc15m, root: y, metadata: list.pkl}\n",
    );
    let mut all = data(&folder, &["prepare", "exp.yaml"]);
    all += &data(&folder, &["prepare", "exp.yaml"]);
    all += &data(&folder, &["prepare", "exp.yaml", "--verify"]);
    all += &data(
        &folder,
        &["prepare", "exp.yaml", "--force", "--output", "other.index"],
    );
    let path = folder.path("list.pkl.index");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4100] ^= 1;
    fs::write(&path, bytes).unwrap();
    all += &data(&folder, &["prepare", "exp.yaml", "--verify"]);
    all += &data(
        &folder,
        &[
            "prepare",
            "exp.yaml",
            "--set",
            "data.root=nowhere",
            "--force",
        ],
    );
    all += &data(
        &folder,
        &["prepare", "exp.yaml", "--set", "data.metadata=nowhere.pkl"],
    );
    all += &data(&folder, &["prepare", "nowhere.yaml"]);
    insta::assert_snapshot!(all);
}

/// To prepare a set again, as training asks for when an archive was changed, helps; so it does once archives come
/// that were absent or broken.
#[test]
fn preparing_again_takes_in_archives_that_changed() {
    let folder = Folder::new();
    folder.write(
        "list.pkl",
        yfcc(&[(2, "t", ""), (1002, "t", ""), (2002, "t", "")]),
    );
    folder.write("y/images/00/000.zip", zip(&[("002.jpg", b"zero")]));
    folder.write("y/images/00/002.zip", b"no archive");
    folder.write(
        "exp.yaml",
        "name: x\nmodel: {name: CL2L_R50_CL2L}\ndata: {dataset: yfcc15m, root: y, metadata: list.pkl}\n",
    );
    let set = folder.data(Dataset::Yfcc15m, "y", "list.pkl");
    let prepare = || data(&folder, &["prepare", "exp.yaml"]);
    let images = || listing(&*open(&set).unwrap());
    let up_to_date = "$ data prepare exp.yaml\n\
        list.pkl.index is up to date: 3 samples, 3 captions\nexit 0\n";
    prepare();
    assert_eq!(prepare(), up_to_date);
    folder.write(
        "y/images/00/000.zip",
        zip(&[("001.jpg", b"more"), ("002.jpg", b"zero again")]),
    );
    let said = images();
    assert!(
        said.contains("run 'rocket-worker data prepare' again"),
        "{said}"
    );
    for (archive, bytes, line) in [
        (0, None, "00000002: t: zero again\n"),
        (1, Some(b"one"), "00001002: t: one\n"),
        (2, Some(b"two"), "00002002: t: two\n"),
    ] {
        if let Some(bytes) = bytes {
            folder.write(
                &format!("y/images/00/{archive:03}.zip"),
                zip(&[("002.jpg", bytes)]),
            );
        }
        prepare();
        let said = images();
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(prepare(), up_to_date);
}

/// Of so many shards no rank looks at each when it begins, but who prepares them does, at those without a sample too.
#[test]
fn preparing_again_looks_at_every_shard() {
    let folder = Folder::new();
    let shard = tar(&[("1.jpg", b"one"), ("1.txt", b"x")]);
    for number in 0..299 {
        folder.write(&format!("{number:03}.tar"), &shard);
    }
    folder.write("299.tar", tar(&[("1.txt", b"x")]));
    folder.write(
        "exp.yaml",
        "name: x\nmodel: {name: CL2L_R50_CL2L}\ndata: {dataset: webdataset, metadata: '{000..299}.tar'}\n",
    );
    let prepare = || data(&folder, &["prepare", "exp.yaml"]);
    let said = prepare();
    assert!(said.contains(".index: 299 samples, "), "{said}");
    let said = prepare();
    assert!(said.contains("is up to date: 299 samples, "), "{said}");
    folder.write("299.tar", &shard);
    let said = prepare();
    assert!(said.contains(".index: 300 samples, "), "{said}");
}

/// Lists and archives that never answer, as of a dead network file system (here pipes that nobody writes to),
/// are named; what was found until then need not be looked for again.
#[test]
fn a_file_system_that_does_not_answer_is_named() {
    let folder = Folder::new();
    let dead = |name: &str| {
        let path = folder.path(name);
        let _ = fs::remove_file(&path);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    };
    let list: Vec<(u32, &str, &str)> = (0..40).map(|i| (i * 1000, "t", "")).collect();
    let archive = zip(&[("000.jpg", b"image")]);
    for i in 0..40 {
        folder.write(&format!("y/images/00/{i:03}.zip"), &archive);
    }
    let experiment = |data: &str| {
        let text = format!("name: x\nmodel: {{name: CL2L_R50_CL2L}}\ndata: {{{data}}}\n");
        folder.write("exp.yaml", text);
    };
    let limit = ["--set", "data.read_timeout_seconds=1"];
    let run = |more: &[&str]| {
        data(
            &folder,
            &[&["prepare", "exp.yaml"], &limit[..], more].concat(),
        )
    };

    experiment("dataset: yfcc15m, root: y, metadata: list.pkl");
    dead("list.pkl");
    let mut all = run(&[]);
    fs::remove_file(folder.path("list.pkl")).unwrap();
    folder.write("list.pkl", yfcc(&list));
    dead("y/images/00/031.zip");
    all += &run(&["--threads", "2"]);
    fs::remove_file(folder.path("y/images/00/031.zip")).unwrap();
    folder.write("y/images/00/031.zip", &archive);
    let again = run(&[]);
    let known = again.lines().find_map(|line| {
        let count = line.strip_suffix(" archives were known from an interrupted attempt")?;
        count.parse().ok()
    });
    assert!(
        known.is_some_and(|known: u32| (30..40).contains(&known)),
        "{again}"
    );

    // The other lists, and shards of which one is dead.
    for (dataset, list) in [
        ("cc3m", "list.npy"),
        ("filelist", "list.tsv"),
        ("coco", "list.json"),
    ] {
        experiment(&format!("dataset: {dataset}, root: y, metadata: {list}"));
        dead(list);
        all += &run(&[]);
    }
    experiment("dataset: webdataset, metadata: '{0,1}.tar'");
    folder.write("0.tar", tar(&[("1.jpg", b"one"), ("1.txt", b"x")]));
    dead("1.tar");
    all += &run(&[]);
    insta::assert_snapshot!(all);
}

/// A set whose list is too long to be read by every rank is refused until it is prepared.
#[test]
fn a_large_set_is_refused_until_it_is_prepared() {
    let folder = Folder::new();
    fs::create_dir(folder.path("images")).unwrap();
    let mut bytes = npy(&[("a.jpg".to_owned(), vec!["x".to_owned()])]);
    // As long as a large list, without its contents: what follows a pickle is not read.
    bytes.push(0);
    let list = folder.write("list.npy", bytes);
    fs::File::options()
        .write(true)
        .open(&list)
        .unwrap()
        .set_len(600 << 20)
        .unwrap();
    let mut set = folder.data(Dataset::Cc3m, "images", "list.npy");
    insta::assert_snapshot!(folder.refusal(&set), @"DIR/list.npy: holds more samples than every rank should read at its start, and has no index yet; make it once: rocket-worker data prepare EXPERIMENT");
    folder.write(
        "exp.yaml",
        "name: x\nmodel: {name: CL2L_R50_CL2L}\ndata: {dataset: cc3m, root: images, metadata: list.npy}\n",
    );
    let said = data(&folder, &["prepare", "exp.yaml"]);
    assert!(said.ends_with("exit 0\n"), "{said}");
    assert_eq!(folder.refusal(&set), "it was opened");
    // In a place of its own.
    fs::rename(folder.path("list.npy.index"), folder.path("its.index")).unwrap();
    set.index = Some(folder.path("its.index"));
    assert_eq!(folder.refusal(&set), "it was opened");
}

#[test]
fn yfcc15m_is_made_of_what_was_published() {
    let folder = Folder::new();
    for name in ["ids.npy", "subset.tsv", "dataset.txt"] {
        fs::copy(golden(&format!("lists/{name}")), folder.path(name)).unwrap();
    }
    let make = [
        "make-yfcc15m",
        "made.pkl",
        "--ids",
        "ids.npy",
        "--subset",
        "subset.tsv",
        "--dataset",
    ];
    let run = |dataset: &str| data(&folder, &[&make[..], &[dataset]].concat());
    let mut all = run("dataset.txt");
    let want: Vec<(i64, String, String)> =
        serde_json::from_slice(&fs::read(golden("lists/cleaned.json")).unwrap()).unwrap();
    let mut made = Vec::new();
    let pickle = fs::read(folder.path("made.pkl")).unwrap();
    Elements::new(&pickle)
        .each(|heap, cell, _| {
            let &[id, title, description] = heap.items(cell).unwrap() else {
                panic!("no tuple of three")
            };
            let text = |cell| heap.text(cell).unwrap().into_owned();
            made.push((heap.int(id).unwrap(), text(title), text(description)));
            Ok(())
        })
        .unwrap();
    assert_eq!(made, want);
    folder.write("short.txt", "3\tphoto\n");
    folder.write("words.txt", "three\tphoto\n");
    all += &run("short.txt");
    all += &run("words.txt");
    all += &run("nowhere.txt");
    fs::copy(golden("lists/one.npy"), folder.path("ids.npy")).unwrap();
    all += &run("dataset.txt");
    insta::assert_snapshot!(all);
}
