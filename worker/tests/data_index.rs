//! The index of a data set: made once, used while it is up to date, and refused in words when it is not.

mod data_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_support::{Folder, listing, npy, open, tar, yfcc, zip};
use rocket_common::experiment::{Data, Dataset};
use rocket_worker::data::index::{Index, IndexError};
use rocket_worker::data::source::{
    Building, Built, Indexed, Part, Progress, Source, current_index, index_path, write_index,
};

fn samples(count: usize) -> Vec<(String, Vec<String>)> {
    (0..count)
        .map(|i| {
            let captions = (0..=i % 3).map(|c| format!("caption {c} of {i}")).collect();
            (format!("{i:05}.jpg"), captions)
        })
        .collect()
}

/// A CC3M of 1,000 samples.
fn set(folder: &Folder) -> Data {
    folder.write("list.npy", npy(&samples(1000)));
    folder.write("images/00007.jpg", "seven");
    folder.data(Dataset::Cc3m, "images", "list.npy")
}

fn prepare(data: &Data) -> (PathBuf, Built) {
    let parts = data.lists().unwrap();
    let path = index_path(data, &parts);
    let built = write_index(&parts, &path, Building::new(&path)).unwrap();
    (path, built)
}

/// Opens the index of `data` and nothing else.
fn current(data: &Data, path: &Path) -> Result<Index, IndexError> {
    current_index(path, &data.lists().unwrap())
}

#[test]
fn an_index_says_what_its_list_says() {
    let folder = Folder::new();
    let data = set(&folder);
    let without = open(&data).unwrap();
    let (path, built) = prepare(&data);
    assert_eq!(path, folder.path("list.npy.index"));
    assert_eq!((built.samples, built.absent), (1000, 0));
    let index = current(&data, &path).unwrap();
    index.verify(|_| {}).unwrap();
    assert_eq!(index.captions(), 1999);
    let with = Indexed::new(index, &data.lists().unwrap(), Duration::MAX, path);
    assert_eq!(with.len(), without.len());
    for (sample, (name, captions)) in samples(1000).iter().enumerate() {
        assert_eq!(with.name(sample), *name);
        assert_eq!(with.captions(sample), *captions);
        assert_eq!(without.captions(sample), *captions);
        assert_eq!(with.place(sample).unwrap(), without.place(sample).unwrap());
    }
    let mut bytes = Vec::new();
    with.read(7, &mut bytes).unwrap();
    assert_eq!(bytes, b"seven");
}

#[test]
fn training_uses_an_index_that_is_up_to_date_and_no_other() {
    let folder = Folder::new();
    let data = set(&folder);
    let list = folder.path("list.npy");
    let time = fs::metadata(&list).unwrap().modified().unwrap();
    let set_time = |time| {
        let times = fs::FileTimes::new().set_modified(time);
        fs::File::options()
            .append(true)
            .open(&list)
            .unwrap()
            .set_times(times)
            .unwrap();
    };
    // An index that says something else than a list of the same size and time shows which one is read.
    let mut other = samples(1000);
    other[5].1[0] = "caption 9 of 5".to_owned();
    fs::write(&list, npy(&other)).unwrap();
    set_time(time);
    let (path, _) = prepare(&data);
    set(&folder);
    set_time(time);
    assert_eq!(open(&data).unwrap().captions(5)[0], "caption 9 of 5");
    // A list that was changed since makes its index useless; a small one is read anew.
    set_time(time + Duration::from_nanos(1_000_000));
    assert!(matches!(current(&data, &path), Err(IndexError::Stale(_))));
    assert_eq!(open(&data).unwrap().captions(5)[0], "caption 0 of 5");
}

/// An archive that is another one now is told, not misread.
#[test]
fn an_archive_that_was_changed_since_is_noticed() {
    let folder = Folder::new();
    folder.write("list.pkl", yfcc(&[(2, "t", "")]));
    folder.write("y/images/00/000.zip", zip(&[("002.jpg", b"two")]));
    let data = folder.data(Dataset::Yfcc15m, "y", "list.pkl");
    prepare(&data);
    folder.write(
        "y/images/00/000.zip",
        zip(&[("001.jpg", b"one"), ("002.jpg", b"two")]),
    );
    let said = listing(&*open(&data).unwrap());
    assert_eq!(
        folder.plain(&said),
        "00000002: t: (DIR/y/images/00/000.zip: it was changed after the index was made; run 'rocket-worker data prepare' again)\n"
    );
}

#[test]
fn an_index_that_cannot_be_used_is_one_clear_error() {
    let folder = Folder::new();
    let data = set(&folder);
    let (path, _) = prepare(&data);
    let good = fs::read(&path).unwrap();
    let named = Data {
        index: Some(folder.path("named.index")),
        ..data.clone()
    };
    let mut all = vec![format!("absent: {}", folder.refusal(&named))];
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let mut later = good.clone();
    later[8] = 9;
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("another file", b"image\tcaption\n".to_vec()),
        ("short", good[..100].to_vec()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("longer", [good.clone(), vec![0]].concat()),
        ("version", later),
        ("header", with(30, 0xFF)),
        ("facts", with(good.len() - 3, b'?')),
    ] {
        folder.write("named.index", bytes);
        all.push(format!("{name}: {}", folder.refusal(&named)));
    }
    folder.write("named.index", &good);
    for (name, other) in [
        (
            "format",
            Data {
                dataset: Dataset::Cc12m,
                ..named.clone()
            },
        ),
        ("whole", named.clone()),
    ] {
        all.push(format!("{name}: {}", folder.refusal(&other)));
    }
    folder.write("list.npy", npy(&samples(999)));
    all.push(format!("list: {}", folder.refusal(&named)));
    fs::remove_file(folder.path("list.npy")).unwrap();
    all.push(format!("gone: {}", folder.refusal(&named)));
    insta::assert_snapshot!(all.join("\n"));
}

/// Damage that only the full check finds is met sample by sample, and is no panic.
#[test]
fn damage_within_an_index_spoils_single_samples() {
    let folder = Folder::new();
    let data = set(&folder);
    let (path, _) = prepare(&data);
    let good = fs::read(&path).unwrap();
    let text = good
        .windows(9)
        .position(|bytes| bytes == b"caption 0")
        .unwrap();
    let parts = data.lists().unwrap();
    for (at, value) in [
        (text, 0xFF),
        (text - 1, 200),
        (text - 2, 250),
        // The length of the name.
        (text - 12, 250),
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        let index = Index::from_bytes(bytes).unwrap();
        assert!(matches!(
            index.verify(|_| {}),
            Err(IndexError::Damaged("text"))
        ));
        let source = Indexed::new(index, &parts, Duration::MAX, path.clone());
        for sample in 0..source.len() {
            assert!(!source.captions(sample).is_empty());
            let _ = (source.name(sample), source.place(sample).is_ok());
        }
        let error = folder.plain(&source.place(0).unwrap_err().to_string());
        assert_eq!(
            error,
            "DIR/list.npy.index: the index is damaged at sample 0; make it again: rocket-worker data prepare EXPERIMENT"
        );
    }
}

/// A shard that is gone is named, and not taken for an index that is not there.
#[test]
fn a_shard_that_is_gone_is_named() {
    let folder = Folder::new();
    let shard = tar(&[("1.jpg", b"one"), ("1.txt", b"x")]);
    let long = folder.write("0.tar", &shard);
    folder.write("1.tar", &shard);
    // As long as a large set, without its contents: what follows an archive's end is not read.
    fs::File::options()
        .write(true)
        .open(long)
        .unwrap()
        .set_len(20 << 30)
        .unwrap();
    let data = folder.data(Dataset::Webdataset, "", "{0,1}.tar");
    prepare(&data);
    assert_eq!(folder.refusal(&data), "it was opened");
    fs::remove_file(folder.path("1.tar")).unwrap();
    let said = folder.refusal(&data);
    assert!(
        said.contains("'DIR/1.tar' cannot be looked at: No such file or directory"),
        "{said}"
    );
}

/// Prepares 25 of the 40 archives of the last list, and is ended there.
fn interrupted(parts: &[Part], path: &Path) {
    let stopped = std::panic::catch_unwind(|| {
        let mut stop = |progress: Progress| {
            assert!(
                !(progress.total == 40 && progress.done == 25),
                "interrupted"
            );
        };
        let mut building = Building::new(path).with_progress(&mut stop);
        building.threads = 2;
        write_index(parts, path, building)
    });
    assert!(stopped.is_err());
    assert!(!path.exists());
}

/// Where an interrupted preparation keeps what it found.
fn journal_of(index: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial", index.display()))
}

/// Archives that were looked into before an interruption are not looked into again, unless they were changed.
#[test]
fn an_interrupted_preparation_goes_on() {
    let folder = Folder::new();
    let list: Vec<(u32, &str, &str)> = (0..40).map(|i| (i * 1000, "t", "")).collect();
    folder.write("list.pkl", yfcc(&list));
    for i in 0..40 {
        let bytes = format!("image {i}");
        folder.write(
            &format!("y/images/00/{i:03}.zip"),
            zip(&[("000.jpg", bytes.as_bytes())]),
        );
    }
    let data = folder.data(Dataset::Yfcc15m, "y", "list.pkl");
    let parts = data.lists().unwrap();
    let path = index_path(&data, &parts);
    interrupted(&parts, &path);
    let journal = journal_of(&path);
    assert!(journal.exists());
    folder.write(
        "y/images/00/003.zip",
        zip(&[("000.jpg", b"another image 3")]),
    );
    // A torn record at its end, as a full disk or a lost node leaves it, costs that record alone.
    let mut bytes = fs::read(&journal).unwrap();
    bytes.extend_from_slice(&[7; 9]);
    fs::write(&journal, bytes).unwrap();
    let built = write_index(&parts, &path, Building::new(&path)).unwrap();
    assert!(built.known >= 25, "{built:?}");
    assert!(!journal.exists());
    let source = open(&data).unwrap();
    let listing = listing(&*source);
    for i in 0..40 {
        let another = if i == 3 { "another " } else { "" };
        assert!(
            listing.contains(&format!("{:08}: t: {another}image {i}\n", i * 1000)),
            "{listing}"
        );
    }
    // A list that was changed meanwhile begins anew.
    fs::write(&journal, "rocket journal 2 of something else\n").unwrap();
    let built = write_index(&parts, &path, Building::new(&path)).unwrap();
    assert_eq!(built.known, 0);
}

/// Joined lists share a journal, and the archives of one are not taken for those of another.
#[test]
fn an_interrupted_preparation_of_joined_lists_goes_on() {
    let folder = Folder::new();
    for (list, count) in [("a", 3), ("b", 40)] {
        for i in 0..count {
            let image = format!("image {i} of {list}");
            folder.write(
                &format!("{list}-{i:02}.tar"),
                tar(&[("1.jpg", image.as_bytes()), ("1.txt", b"x")]),
            );
        }
    }
    let list = |pattern: &str| format!("webdataset={}", folder.path(pattern).display());
    let data = Data {
        dataset: Dataset::MergedOpendata,
        root: Dataset::JOINT.into(),
        metadata: [list("a-{00..02}.tar"), list("b-{00..39}.tar")]
            .join(Dataset::JOINT)
            .into(),
        ..Data::default()
    };
    let parts = data.lists().unwrap();
    let path = index_path(&data, &parts);
    interrupted(&parts, &path);
    // The journal of an older version, which numbered archives otherwise, is begun anew.
    let mut old = fs::read(journal_of(&path)).unwrap();
    old["rocket journal ".len()] = b'1';
    let whole = folder.path("whole.index");
    fs::write(journal_of(&whole), old).unwrap();
    let built = write_index(&parts, &whole, Building::new(&whole)).unwrap();
    assert_eq!((built.samples, built.known), (43, 0));
    let built = write_index(&parts, &path, Building::new(&path)).unwrap();
    assert!(built.known >= 28, "{built:?}");
    assert!(fs::read(&path).unwrap() == fs::read(&whole).unwrap());
}

/// What was wrong with an archive is not held against it once it is mended, nor is a shard that was changed
/// misread.
#[test]
fn an_archive_that_was_mended_is_looked_into_again() {
    let folder = Folder::new();
    let whole = tar(&[("1.jpg", b"one"), ("1.txt", b"x")]);
    folder.write("0.tar", &whole);
    folder.write("1.tar", &whole[..700]);
    let data = folder.data(Dataset::Webdataset, "", "{0,1}.tar");
    let parts = data.lists().unwrap();
    let path = index_path(&data, &parts);
    let error = write_index(&parts, &path, Building::new(&path)).unwrap_err();
    assert!(
        error.to_string().contains("1.tar is not a whole tar"),
        "{error}"
    );
    folder.write("1.tar", &whole);
    let built = write_index(&parts, &path, Building::new(&path)).unwrap();
    assert_eq!((built.samples, built.known), (2, 1));
    current(&data, &path).unwrap();
    folder.write("1.tar", tar(&[("1.jpg", b"other"), ("1.txt", b"y")]));
    assert!(matches!(current(&data, &path), Err(IndexError::Stale(_))));
    assert!(open(&data).unwrap().captions(1) == ["y"]);
}

/// Runs `bench index` on an experiment of this folder, and gives what it says.
fn bench(folder: &Folder, processes: &str) -> serde_json::Value {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .args(["bench", "index", "exp.yaml", "--processes", processes])
        .current_dir(folder.path("."))
        .env("ROCKET_INDEX_DIR", folder.path("cache"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A CC3M that is not read anew by every process, and its experiment.
fn large_set(folder: &Folder) -> Data {
    let many: Vec<(String, Vec<String>)> = (0..200_000)
        .map(|i| (format!("{i}.jpg"), vec![format!("{i} ").repeat(10)]))
        .collect();
    folder.write("list.npy", npy(&many));
    fs::create_dir(folder.path("images")).unwrap();
    folder.write(
        "exp.yaml",
        "name: x\nmodel: {name: CL2L_R50_CL2L}\ndata: {dataset: cc3m, root: images, metadata: list.npy, workers: 1}\n",
    );
    folder.data(Dataset::Cc3m, "images", "list.npy")
}

/// Many processes that want the same index at their first use make one.
#[test]
fn the_first_use_makes_one_index_for_all() {
    let folder = Folder::new();
    let data = large_set(&folder);
    let run = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
            .args(["bench", "index", "--member", "exp.yaml"])
            .current_dir(folder.path("."))
            .env("ROCKET_INDEX_DIR", folder.path("cache"))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..4).map(|_| run()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && said.contains("\"samples\":200000"),
            "{said}"
        );
    }
    let mut made: Vec<String> = fs::read_dir(folder.path("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    made.sort();
    assert_eq!(made.len(), 2, "an index and its lock: {made:?}");
    let index = folder.path("cache").join(&made[0]);
    let first = fs::metadata(&index).unwrap().modified().unwrap();
    assert!(run().wait_with_output().unwrap().status.success());
    assert_eq!(fs::metadata(&index).unwrap().modified().unwrap(), first);
    assert!(
        current(&data, &folder.path("list.npy.index")).is_err(),
        "nothing beside the list"
    );
}

/// Eight processes share one copy in memory.
#[test]
fn processes_share_the_memory_of_an_index() {
    let folder = Folder::new();
    prepare(&large_set(&folder));
    let said = bench(&folder, "8");
    assert_eq!(said["samples"], 200_000, "{said}");
    let copies = said["pss_copies"].as_f64().unwrap();
    assert!((0.5..=1.2).contains(&copies), "{said}");
    let private = said["private_bytes"].as_f64().unwrap();
    assert!(private < 4e6, "{said}");
}
