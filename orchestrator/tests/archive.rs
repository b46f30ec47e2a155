//! `rocket export` and `rocket import-run`.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Env, Said};
use tar::{Builder, EntryType, Header};

/// Counts, and writes numbers as a trainer does.
const COUNTER: &str = r#"
for n in 1 2 3 4 5 6; do
  echo "{\"kind\": \"train\", \"step\": $n, \"loss\": $((12 / n)).5, \"lr\": 0.1}" >> $ROCKET_RUN_DIR/metrics.jsonl
done
mkdir -p $ROCKET_RUN_DIR/eval
echo '{"dataset": "x", "step": 6, "heads": []}' > $ROCKET_RUN_DIR/eval/x-step-00000006.json
echo done
"#;

/// A finished run, and a second clone with a folder of runs of its own.
fn two_places() -> (Env, String, PathBuf) {
    let env = Env::with_job(COUNTER, 1);
    let run = env.submit(&[]);
    env.wait_for_status(&run, "finished");
    let other = env.path("other");
    env.git(&["clone", "--quiet", ".", other.to_str().unwrap()]);
    (env, run, other)
}

fn rocket_in(env: &Env, folder: &Path, args: &[&str]) -> Said {
    let rocket = Path::new(env!("CARGO_BIN_EXE_rocket"));
    env.said(env.command(rocket, folder).args(args).output().unwrap())
}

/// With what differs from one test to the next named.
fn plain(text: &str, run: &str) -> String {
    let short = run.split('-').nth(1).unwrap_or(run);
    let mut text = text.replace(run, "[RUN]").replace(short, "[ID]");
    for number in ["kB", "MB", " B"] {
        let words: Vec<String> = text
            .split('\n')
            .map(
                |line| match line.find(number).is_some() && line.contains(" as ") {
                    true => line.split(';').next().unwrap_or_default().to_owned(),
                    false => line.to_owned(),
                },
            )
            .collect();
        text = words.join("\n");
    }
    text
}

#[test]
fn a_run_travels_in_one_file() {
    let (env, run, other) = two_places();
    let said = env.rocket(&["export", &run, "-o", "run.tar.zst"]).ok();
    insta::assert_snapshot!(plain(&said.stdout, &run), @r"
    run.tar.zst
      run        [RUN]
      holds      8 files, no checkpoint
      next       rocket import-run run.tar.zst | rocket reproduce run.tar.zst
    ");
    let archive = env.repo().join("run.tar.zst");
    // The same run gives the same bytes; and nothing is left beside them.
    env.rocket(&["export", &run, "-o", "again.tar.zst"]).ok();
    assert!(fs::read(&archive).unwrap() == fs::read(env.repo().join("again.tar.zst")).unwrap());
    let left = fs::read_dir(env.repo()).unwrap().flatten();
    assert!(
        !left
            .into_iter()
            .any(|entry| entry.file_name().to_string_lossy().ends_with(".tmp"))
    );
    let said = env.rocket(&["export", &run, "-o", "run.tar.zst"]).fails();
    insta::assert_snapshot!(said.stderr, @r"
    error: 'run.tar.zst' exists
    hint: name another file with --output, or replace it with --force
    ");
    env.rocket(&["export", &run, "-o", "run.tar.zst", "--force"])
        .ok();

    let file = archive.to_str().unwrap();
    let said = rocket_in(&env, &other, &["import-run", file]).ok();
    insta::assert_snapshot!(plain(&said.stdout, &run), @r"
    run [RUN]
      directory  [DIR]/other/runs/[RUN]
      holds      8 files, no checkpoint
      next       rocket show [RUN] | rocket reproduce [RUN]
    ");
    // Here it is as if it had run here, and it says where it did.
    let read = |name: &str| fs::read(other.join("runs").join(&run).join(name)).unwrap();
    for name in [
        "metrics.jsonl",
        "experiment.yaml",
        "eval/x-step-00000006.json",
    ] {
        assert_eq!(
            read(name),
            fs::read(env.run_dir(&run).join(name)).unwrap(),
            "{name}"
        );
    }
    let reference = format!("refs/rocket/{run}");
    let commit = env.git(&["rev-parse", &reference]);
    assert_eq!(env.git_in(&other, &["rev-parse", &reference]), commit);
    env.git_in(&other, &["fsck", "--strict"]);
    let show = rocket_in(&env, &other, &["show", &run]).ok().stdout;
    assert!(show.contains("imported    from "), "{show}");
    let original = env.repo().join("runs").join(&run);
    let original = original
        .display()
        .to_string()
        .replace(&env.path("").display().to_string(), "[DIR]/");
    assert!(show.contains(&original), "{show}");
    for command in [
        &["status"][..],
        &["plot", &run],
        &["report", &run, "-o", "report.html"],
        &["compare", &run, &run],
        &["export", &run],
    ] {
        rocket_in(&env, &other, command).ok();
    }
    let status = rocket_in(&env, &other, &["status", &run, "--json"])
        .ok()
        .stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status[0]["status"], "finished");

    let again = rocket_in(&env, &other, &["import-run", file]).fails();
    insta::assert_snapshot!(plain(&again.stderr, &run), @r"
    error: '[DIR]/repo/run.tar.zst': it is run [RUN], which is in '[DIR]/other/runs' already
    hint: look at it with 'rocket show [RUN]', or take the archive into another folder of runs with --runs DIR
    ");
    // Into a folder that is named, no repository is needed.
    let alone = env.path("alone");
    fs::create_dir(&alone).unwrap();
    rocket_in(&env, &alone, &["import-run", file, "--runs", "runs"]).ok();
    let text = rocket_in(&env, &alone, &["status", "--runs", "runs"])
        .ok()
        .stdout;
    assert!(text.contains(&run), "{text}");
}

/// A writer of events may have a name that is longer than an archive's names may be: an evaluation of a run
/// with a long name had.
#[test]
fn a_file_of_events_with_a_long_name_travels_too() {
    let (env, run, other) = two_places();
    let events = env.run_dir(&run).join("events");
    let ends = ["1111111111111111", "2222222222222222"];
    for end in ends {
        let name = format!("eval-{}-login1-4711-{end}.jsonl", "a-long-name-".repeat(12));
        let event =
            json!({"time": "2030-01-01T00:00:00Z", "event": "note", "cause": format!("by {end}")});
        fs::write(events.join(name), format!("{event}\n")).unwrap();
    }
    env.rocket(&["export", &run, "-o", "run.tar.zst"]).ok();
    let file = env.repo().join("run.tar.zst");
    rocket_in(&env, &other, &["import-run", file.to_str().unwrap()]).ok();
    let mut taken: Vec<String> = fs::read_dir(other.join("runs").join(&run).join("events"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| ends.iter().any(|end| name.contains(end)))
        .collect();
    taken.sort();
    assert_eq!(taken.len(), 2, "{taken:?}");
    for (name, end) in taken.iter().zip(ends) {
        assert!(
            name.ends_with(&format!("-login1-4711-{end}.jsonl")),
            "{name}"
        );
    }
    let show = rocket_in(&env, &other, &["show", &run]).ok().stdout;
    for end in ends {
        assert!(show.contains(&format!("by {end}")), "{show}");
    }
}

#[test]
fn git_takes_the_commit_without_rocket() {
    let (env, run, other) = two_places();
    env.rocket(&["export", &run]).ok();
    let archive = env.repo().join(format!("{run}.tar.zst"));
    let unpacked = env.path("unpacked");
    unpack(&archive, &unpacked);
    env.git_in(
        &other,
        &[
            "fetch",
            "--quiet",
            "../unpacked/commit.bundle",
            "refs/rocket/*:refs/rocket/*",
        ],
    );
    let name = format!("refs/rocket/{run}");
    assert_eq!(
        env.git_in(&other, &["rev-parse", &name]),
        env.git(&["rev-parse", &name])
    );
}

#[test]
fn what_ran_elsewhere_is_not_started_here() {
    let env = Env::with_job("touch $ROCKET_RUN_DIR/here; sleep 300", 1);
    let run = env.submit(&[]);
    env.wait_for_file(&run, "here");
    // While it runs: what has happened so far.
    env.rocket(&["export", &run, "-o", "run.tar.zst"]).ok();
    let other = env.path("other");
    env.git(&["clone", "--quiet", ".", other.to_str().unwrap()]);
    let file = env.repo().join("run.tar.zst");
    rocket_in(&env, &other, &["import-run", file.to_str().unwrap()]).ok();
    env.rocket(&["cancel", &run, "--now"]).ok();

    let status = rocket_in(&env, &other, &["status", &run]).ok().stdout;
    let (table, why) = status.split_once("\n\n").unwrap();
    assert!(table.contains("  stopped  "), "{table}");
    insta::assert_snapshot!(plain(why, &run), @r"
    [RUN]: it was not over when it was exported from '[DIR]/repo/runs/[RUN]'
      hint: rocket reproduce [RUN] runs it here
    ");
    let mut said = String::new();
    let dir = other.join("runs").join(&run);
    for args in [
        &["resume", &run][..],
        &["cancel", &run],
        &["preempt", &run],
        &["supervise", dir.to_str().unwrap()],
    ] {
        let one = rocket_in(&env, &other, args).fails();
        said.push_str(&format!("{}: {}", args[0], one.stderr));
    }
    let host = rocket_common::host::name();
    insta::assert_snapshot!(plain(&said.replace(&host, "[HOST]"), &run), @r"
    resume: error: run [RUN] was imported from '[DIR]/repo/runs/[RUN]' on [HOST]; it does not go on here
    hint: rocket reproduce [RUN] does it once more
    cancel: error: run [RUN] was imported from '[DIR]/repo/runs/[RUN]' on [HOST]; it does not go on here
    hint: rocket reproduce [RUN] does it once more
    preempt: error: run [RUN] is stopped: there is nothing to stop
    supervise: error: run [RUN] was imported from '[DIR]/repo/runs/[RUN]' on [HOST]; it does not go on here
    hint: rocket reproduce [RUN] does it once more
    ");
    let said = rocket_in(&env, &other, &["heal", "--dry-run"]).ok().stdout;
    assert_eq!(said, "nothing to heal: 1 runs are in order\n");
    assert!(!dir.join("attempts/001").exists());
}

/// A member of an archive that is made by hand.
struct Part {
    name: String,
    bytes: Vec<u8>,
    kind: EntryType,
    link: &'static str,
}

fn unpack(archive: &Path, into: &Path) {
    let decoder = zstd::Decoder::new(fs::File::open(archive).unwrap()).unwrap();
    tar::Archive::new(decoder).unpack(into).unwrap();
}

fn parts(archive: &Path) -> Vec<Part> {
    use std::io::Read;
    let decoder = zstd::Decoder::new(fs::File::open(archive).unwrap()).unwrap();
    let mut archive = tar::Archive::new(decoder);
    let parts = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        Part {
            name: entry.path().unwrap().display().to_string(),
            bytes,
            kind: EntryType::Regular,
            link: "",
        }
    });
    parts.collect()
}

/// Writes parts as they are, whatever their names; the first is the index and is made to fit the others.
fn repack(parts: &[Part], fit: bool, to: &Path) {
    let encoder = zstd::Encoder::new(fs::File::create(to).unwrap(), 1).unwrap();
    let mut builder = Builder::new(encoder);
    let mut index: Value = serde_json::from_slice(&parts[0].bytes).unwrap();
    if fit {
        let members = parts[1..].iter().map(|part| {
            let sha256 = format!("{:x}", Sha256::digest(&part.bytes));
            json!({"path": part.name, "bytes": part.bytes.len(), "sha256": sha256})
        });
        index["members"] = members.collect();
    }
    let first = Part {
        name: parts[0].name.clone(),
        bytes: index.to_string().into_bytes(),
        kind: EntryType::Regular,
        link: "",
    };
    for part in std::iter::once(&first).chain(&parts[1..]) {
        let mut header = Header::new_ustar();
        let name = &mut header.as_old_mut().name;
        name[..part.name.len()].copy_from_slice(part.name.as_bytes());
        header.set_entry_type(part.kind);
        if !part.link.is_empty() {
            header.set_link_name(part.link).unwrap();
        }
        header.set_mode(0o644);
        header.set_size(part.bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, part.bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap();
}

#[test]
fn an_archive_that_is_damaged_or_made_to_do_harm_leaves_nothing_behind() {
    let (env, run, other) = two_places();
    env.rocket(&["export", &run, "-o", "run.tar.zst"]).ok();
    let good = env.repo().join("run.tar.zst");
    let bad = env.path("bad.tar.zst");
    let part = |name: &str, bytes: &[u8]| Part {
        name: name.into(),
        bytes: bytes.into(),
        kind: EntryType::Regular,
        link: "",
    };
    let edit = |parts: &mut Vec<Part>, name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let part = parts.iter_mut().find(|part| part.name == name).unwrap();
        change(&mut part.bytes);
    };
    type Change<'a> = Box<dyn Fn(&mut Vec<Part>) + 'a>;
    let with = |name: &'static str| -> Change<'_> {
        Box::new(move |parts| parts.push(part(name, b"harm")))
    };
    let link = |kind: EntryType, name: &'static str, to: &'static str| -> Change<'_> {
        Box::new(move |parts| {
            let mut one = part(name, b"");
            (one.kind, one.link) = (kind, to);
            parts.push(one);
        })
    };
    let index = |change: &'static dyn Fn(&mut Value)| -> Change<'_> {
        Box::new(move |parts| {
            let mut value: Value = serde_json::from_slice(&parts[0].bytes).unwrap();
            change(&mut value);
            parts[0].bytes = value.to_string().into_bytes();
        })
    };
    let cases: Vec<(&str, bool, Change<'_>)> = vec![
        ("a path that leads out", true, with("../../harm")),
        (
            "a path that leads out later",
            true,
            with("run/events/../../../harm"),
        ),
        ("an absolute path", true, with("/tmp/rocket-harm")),
        ("a hidden file", true, with("run/.secrets")),
        ("a file that is no part of a run", true, with("run/CANCEL")),
        ("a file twice", true, with("run/metrics.jsonl")),
        ("a file that is also a folder", true, with("run/run.json/x")),
        (
            "a symbolic link",
            true,
            link(EntryType::Symlink, "run/events/x.jsonl", "/etc/passwd"),
        ),
        (
            "a hard link",
            true,
            link(EntryType::Link, "run/events/x.jsonl", "run/run.json"),
        ),
        (
            "a device",
            true,
            link(EntryType::Char, "run/events/x.jsonl", ""),
        ),
        (
            "a folder",
            true,
            link(EntryType::Directory, "run/events/x.jsonl", ""),
        ),
        (
            "a long name",
            true,
            link(EntryType::GNULongName, "run/events/x.jsonl", ""),
        ),
        (
            "a file that the index does not name",
            false,
            with("run/events/more.jsonl"),
        ),
        (
            "a changed byte",
            false,
            Box::new(|parts| edit(parts, "run/metrics.jsonl", &|bytes| bytes[0] ^= 1)),
        ),
        (
            "another length",
            false,
            Box::new(|parts| edit(parts, "run/metrics.jsonl", &|bytes| bytes.push(0))),
        ),
        (
            "a member that is missing",
            false,
            Box::new(|parts| drop(parts.pop())),
        ),
        (
            "no run.json",
            true,
            Box::new(|parts| parts.retain(|part| part.name != "run/run.json")),
        ),
        (
            "another experiment",
            true,
            Box::new(|parts| {
                edit(parts, "run/experiment.yaml", &|bytes| {
                    bytes.extend(b"# x\n")
                })
            }),
        ),
        (
            "a run.json of another run",
            true,
            Box::new(|parts| {
                edit(parts, "run/run.json", &|bytes| {
                    let mut value: Value = serde_json::from_slice(bytes).unwrap();
                    value["run_id"] = "other-12345678".into();
                    *bytes = value.to_string().into_bytes();
                });
            }),
        ),
        (
            "a damaged commit",
            true,
            Box::new(|parts| {
                edit(parts, "commit.bundle", &|bytes| {
                    let at = bytes.len() / 2;
                    bytes[at] ^= 1;
                })
            }),
        ),
        (
            "no commit",
            true,
            Box::new(|parts| edit(parts, "commit.bundle", &Vec::clear)),
        ),
        (
            "another run's id",
            true,
            index(&|value| value["run"] = "../../x-12345678".into()),
        ),
        (
            "an index of another time",
            true,
            index(&|value| value["schema"] = 99.into()),
        ),
        (
            "an index of something else",
            true,
            index(&|value| value["format"] = "zip".into()),
        ),
        (
            "an index that lies about a length",
            false,
            index(&|value| value["members"][0]["bytes"] = (1_u64 << 50).into()),
        ),
    ];
    let mut said = String::new();
    for (what, fit, change) in &cases {
        let mut all = parts(&good);
        change(&mut all);
        repack(&all, *fit, &bad);
        let one = rocket_in(&env, &other, &["import-run", "../bad.tar.zst"]).fails();
        said.push_str(&format!("{what}\n{}\n", one.stderr));
        nothing_left(&env, &other, what);
    }
    let bytes = fs::read(&good).unwrap();
    let wholes: [(&str, Vec<u8>); 5] = [
        ("cut short", bytes[..bytes.len() * 2 / 3].to_vec()),
        ("cut short by a byte", bytes[..bytes.len() - 1].to_vec()),
        ("something after its end", [&bytes[..], &bytes[..]].concat()),
        ("no archive", b"PK\x03\x04 a zip".to_vec()),
        ("empty", Vec::new()),
    ];
    for (what, bytes) in wholes {
        fs::write(&bad, bytes).unwrap();
        let one = rocket_in(&env, &other, &["import-run", "../bad.tar.zst"]).fails();
        said.push_str(&format!("{what}\n{}\n", one.stderr));
        nothing_left(&env, &other, what);
    }
    let one = rocket_in(
        &env,
        &other,
        &["import-run", "../repo/run.tar.zst", "--max-size", "1 kB"],
    );
    said.push_str(&format!("larger than is allowed\n{}", one.fails().stderr));
    nothing_left(&env, &other, "larger than is allowed");
    insta::with_settings!({filters => vec![
        (r"\b[0-9a-f]{40}\b", "[COMMIT]"),
        (r"\b[0-9a-f]{8}\b", "[ID]"),
        (r"\d+ bytes", "[N] bytes"),
        (r"room for \d+", "room for [N]"),
    ]}, { insta::assert_snapshot!(said) });
    // And the good one still goes in.
    rocket_in(&env, &other, &["import-run", "../repo/run.tar.zst"]).ok();
}

fn nothing_left(env: &Env, other: &Path, what: &str) {
    let left: Vec<String> = fs::read_dir(other.join("runs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != ".gitignore" && name != "pins.git")
        .collect();
    assert!(left.is_empty(), "{what} left {left:?}");
    let refs = env.git_in(other, &["for-each-ref", "refs/rocket"]);
    assert_eq!(refs, "", "{what}");
    for path in [
        env.path("harm"),
        PathBuf::from("/tmp/rocket-harm"),
        other.join("harm"),
    ] {
        assert!(!path.exists(), "{what} wrote {}", path.display());
    }
}
