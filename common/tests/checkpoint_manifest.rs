//! Checkpoints: whole or not at all, damage is seen, the last good one stays.

mod support;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use rocket_common::checkpoint::{
    self, Checkpoint, Draft, HashingWriter, Info, Keep, Published, choose, dir_name, latest_good,
};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::{Claim, RunDir};

fn run() -> (tempfile::TempDir, RunDir) {
    let root = tempfile::tempdir().unwrap();
    let run = support::run(root.path(), "demo");
    run.claim_attempt(&Claim::of_this_process(None)).unwrap();
    (root, run)
}

fn save(run: &RunDir, step: u64, score: Option<f64>) -> Checkpoint {
    let mut draft = Draft::begin(run, 0, step).unwrap();
    let content: Vec<u8> = (0..2000).map(|byte| (byte * step) as u8).collect();
    draft
        .write("model", 1, "model.safetensors", &content)
        .unwrap();
    draft.write("state", 2, "state.json", b"{}").unwrap();
    let metrics = score.map(|score| ("z_top1".to_owned(), score));
    let info = Info {
        world_size: 2,
        threads: 1,
        metrics: metrics.into_iter().collect(),
        ..Info::default()
    };
    match draft.publish(info).unwrap() {
        Published::New(checkpoint) => checkpoint,
        Published::Already(_) => panic!("step {step} was there"),
    }
}

fn steps(run: &RunDir) -> Vec<u64> {
    let list = checkpoint::list(&run.checkpoints_dir()).unwrap();
    list.into_iter().map(|(step, _)| step).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn leftovers(run: &RunDir) -> Vec<String> {
    let names = fs::read_dir(run.checkpoints_dir()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_published_checkpoint_is_found_and_good() {
    let (_root, run) = run();
    assert_eq!(
        latest_good(&run.checkpoints_dir()).unwrap().checkpoint,
        None
    );
    save(&run, 100, None);
    let made = save(&run, 1200, Some(0.5));
    assert_eq!(made.name(), "step-00001200");
    let found = latest_good(&run.checkpoints_dir()).unwrap();
    assert_eq!(found.checkpoint.as_ref(), Some(&made));
    assert!(found.damaged.is_empty() && leftovers(&run).is_empty());
    let manifest = made.manifest();
    let model = manifest.section("model").unwrap();
    let (bytes, sha256) = checkpoint::sha256_file(&made.section_path("model", 1).unwrap()).unwrap();
    assert_eq!((bytes, &sha256), (model.bytes, &model.sha256));
    assert_eq!(manifest.bytes(), 2002);
    assert!(
        made.section_path("state", 1)
            .unwrap_err()
            .message()
            .contains("knows up to 1")
    );
    assert!(
        made.section_path("optim", 1)
            .unwrap_err()
            .message()
            .contains("no section 'optim'")
    );
}

#[test]
fn sha256_is_sha256() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(checkpoint::sha256_hex(b"abc"), abc);
    let mut writer = HashingWriter::new(Vec::new());
    writer.write_all(b"a").unwrap();
    writer.write_all(b"bc").unwrap();
    assert_eq!(
        writer.finish().unwrap(),
        (b"abc".to_vec(), 3, abc.to_owned())
    );
}

#[test]
fn every_flipped_byte_is_seen_and_the_one_before_is_used() {
    let (_root, run) = run();
    let good = save(&run, 10, Some(0.25));
    let bad = save(&run, 20, Some(0.5));
    for section in ["manifest.json", "model.safetensors", "state.json"] {
        let path = bad.dir().join(section);
        let length = fs::read(&path).unwrap().len();
        for at in (0..length).step_by(length.div_ceil(300)) {
            let whitespace = fs::read(&path).unwrap()[at].is_ascii_whitespace();
            flip(&path, at);
            let found = latest_good(&run.checkpoints_dir()).unwrap();
            // Indentation of the manifest may become other whitespace, which means the same.
            if !(section == "manifest.json" && whitespace && found.damaged.is_empty()) {
                assert_eq!(found.checkpoint.as_ref(), Some(&good), "{section} at {at}");
                assert_eq!(found.damaged[0].step, 20);
                let expected = "checkpoint 'step-00000020' cannot be used: ";
                assert!(
                    found.damaged[0].reason.starts_with(expected),
                    "{}",
                    found.damaged[0].reason
                );
            }
            flip(&path, at);
        }
    }
    assert_eq!(
        latest_good(&run.checkpoints_dir()).unwrap().checkpoint,
        Some(bad)
    );
}

#[test]
fn torn_writes_are_passed_over_and_explained() {
    let (_root, run) = run();
    save(&run, 10, None);
    let torn = |step: u64, damage: &dyn Fn(&Path)| damage(save(&run, step, None).dir());
    let cut_to = |path: &Path, length: u64| {
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(length)
            .unwrap()
    };
    let cut = |path: &Path| cut_to(path, 100);
    torn(20, &|dir| cut(&dir.join("model.safetensors")));
    torn(30, &|dir| fs::remove_file(dir.join("state.json")).unwrap());
    // Before the time, whose length varies.
    torn(40, &|dir| cut_to(&dir.join("manifest.json"), 10));
    torn(50, &|dir| {
        fs::remove_file(dir.join("manifest.json")).unwrap()
    });
    torn(60, &|dir| flip(&dir.join("model.safetensors"), 5));
    torn(70, &|dir| {
        let text = fs::read_to_string(dir.join("manifest.json")).unwrap();
        fs::write(
            dir.join("manifest.json"),
            text.replace("\"schema\": 1", "\"schema\": 9"),
        )
        .unwrap();
    });
    fs::rename(
        run.checkpoints_dir().join(dir_name(70)),
        run.checkpoints_dir().join(dir_name(80)),
    )
    .unwrap();
    save(&run, 70, None);
    fs::rename(
        run.checkpoints_dir().join(dir_name(70)),
        run.checkpoints_dir().join(dir_name(90)),
    )
    .unwrap();
    let found = latest_good(&run.checkpoints_dir()).unwrap();
    assert_eq!(found.checkpoint.unwrap().step(), 10);
    let reasons: Vec<String> = found.damaged.into_iter().map(|one| one.reason).collect();
    insta::assert_snapshot!(reasons.join("\n"));
}

#[test]
fn a_draft_that_is_dropped_or_fenced_leaves_nothing() {
    let (_root, run) = run();
    let good = save(&run, 10, None);
    let mut draft = Draft::begin(&run, 0, 20).unwrap();
    draft.write("model", 1, "model", b"x").unwrap();
    drop(draft);
    let mut draft = Draft::begin(&run, 0, 20).unwrap();
    draft.write("model", 1, "model", b"x").unwrap();
    run.claim_attempt(&Claim::of_this_process(None)).unwrap();
    let error = draft.publish(Info::default()).unwrap_err();
    assert_eq!(error.kind(), ExitKind::Fenced);
    assert_eq!(
        Draft::begin(&run, 0, 30).unwrap_err().kind(),
        ExitKind::Fenced
    );
    assert_eq!((steps(&run), leftovers(&run).len()), (vec![10], 0));
    assert_eq!(
        latest_good(&run.checkpoints_dir()).unwrap().checkpoint,
        Some(good)
    );
}

#[test]
fn a_full_disk_is_said_and_hurts_nothing() {
    let (_root, run) = run();
    let good = save(&run, 10, None);
    let mut draft = Draft::begin(&run, 0, 20).unwrap();
    // A device that is always full stands in for the section's file.
    std::os::unix::fs::symlink("/dev/full", draft.dir().join("full")).unwrap();
    let mut full = HashingWriter::new(
        fs::File::options()
            .write(true)
            .open(draft.dir().join("full"))
            .unwrap(),
    );
    assert_eq!(
        full.write_all(b"x").unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    fs::remove_file(draft.dir().join("full")).unwrap();
    let mut section = draft.section("model", 1, "model").unwrap();
    section.replace_file(fs::File::options().write(true).open("/dev/full").unwrap());
    section.write_all(&[0; 1000]).unwrap();
    let error = section.finish().unwrap_err();
    assert_eq!(error.kind(), ExitKind::Checkpoint);
    assert!(error.is_disk_full());
    assert!(
        error.message().ends_with("/model': the disk is full"),
        "{error}"
    );
    assert!(error.hints()[0].contains("free space"), "{error}");
    drop(draft);
    assert_eq!((steps(&run), leftovers(&run).len()), (vec![10], 0));
    assert_eq!(
        latest_good(&run.checkpoints_dir()).unwrap().checkpoint,
        Some(good)
    );
}

#[test]
fn the_same_step_again_stays_if_good_and_is_replaced_if_damaged() {
    let (_root, run) = run();
    let first = save(&run, 10, Some(0.5));
    let again = |content: &[u8]| {
        let mut draft = Draft::begin(&run, 0, 10).unwrap();
        draft.write("model", 1, "model", content).unwrap();
        draft.publish(Info::default()).unwrap()
    };
    assert_eq!(again(b"other"), Published::Already(first.clone()));
    flip(&first.dir().join("state.json"), 0);
    let Published::New(second) = again(b"other") else {
        panic!()
    };
    assert_eq!(
        latest_good(&run.checkpoints_dir()).unwrap().checkpoint,
        Some(second)
    );
    assert_eq!(leftovers(&run).len(), 1, "the damaged one is kept aside");
}

#[test]
fn section_names_and_files_are_checked() {
    let (_root, run) = run();
    let mut draft = Draft::begin(&run, 0, 10).unwrap();
    draft.write("model", 1, "model", b"x").unwrap();
    for (name, file) in [
        ("model", "b"),
        ("b", "model"),
        ("b", "../b"),
        ("b", "manifest.json"),
        ("b", ""),
    ] {
        assert!(draft.write(name, 1, file, b"x").is_err(), "{name} {file}");
    }
    fs::write(draft.dir().join("own"), b"abc").unwrap();
    draft.adopt("own", 1, "own").unwrap();
    let published = draft.publish(Info::default()).unwrap();
    let own = published
        .checkpoint()
        .manifest()
        .section("own")
        .unwrap()
        .clone();
    assert_eq!((own.bytes, own.sha256), (3, checkpoint::sha256_hex(b"abc")));
}

fn keep(last: usize, best: usize) -> Keep {
    Keep {
        last,
        best,
        metric: "z_top1".into(),
    }
}

#[test]
fn the_latest_and_the_best_stay() {
    let (_root, run) = run();
    for (step, score) in [
        (10, Some(0.9)),
        (20, Some(0.1)),
        (30, None),
        (40, Some(0.3)),
        (50, Some(f64::NAN)),
    ] {
        save(&run, step, score);
    }
    let pruned = checkpoint::prune(&run, 0, &keep(2, 1)).unwrap();
    assert_eq!(
        (pruned.kept, pruned.removed),
        (vec![10, 40, 50], vec![30, 20])
    );
    assert_eq!(steps(&run), [50, 40, 10]);
    // Scores that come after the publication count as well.
    let mut latest = checkpoint::open(&run.checkpoints_dir().join(dir_name(50))).unwrap();
    latest
        .add_metrics(&[("z_top1".to_owned(), 0.95)].into())
        .unwrap();
    checkpoint::prune(&run, 0, &keep(0, 1)).unwrap();
    assert_eq!(steps(&run), [50]);
    assert_eq!(
        latest_good(&run.checkpoints_dir()).unwrap().checkpoint,
        Some(latest)
    );
    assert!(leftovers(&run).is_empty());
}

#[test]
fn of_equal_scores_the_later_stays() {
    let scores = [(10, Some(0.5)), (20, Some(0.5)), (30, Some(0.1))];
    assert_eq!(choose(&scores, &keep(1, 1)), [20, 30].into());
}

#[test]
fn the_only_good_checkpoint_is_never_removed() {
    let (_root, run) = run();
    save(&run, 10, None);
    for step in [20, 30] {
        flip(&save(&run, step, None).dir().join("model.safetensors"), 7);
    }
    let pruned = checkpoint::prune(&run, 0, &keep(1, 0)).unwrap();
    assert_eq!(pruned.kept, [10, 20, 30]);
    save(&run, 40, None);
    checkpoint::prune(&run, 0, &keep(1, 0)).unwrap();
    assert_eq!(steps(&run), [40]);
    // With none good at all, nothing goes.
    flip(
        &run.checkpoints_dir()
            .join(dir_name(40))
            .join("model.safetensors"),
        7,
    );
    flip(&save(&run, 50, None).dir().join("model.safetensors"), 7);
    assert_eq!(
        checkpoint::prune(&run, 0, &keep(1, 0)).unwrap().removed,
        [0; 0]
    );
    assert_eq!(steps(&run), [50, 40]);
}

#[test]
fn what_lower_attempts_left_half_written_goes() {
    let (_root, run) = run();
    let old = Draft::begin(&run, 0, 10).unwrap();
    run.claim_attempt(&Claim::of_this_process(None)).unwrap();
    let own = Draft::begin(&run, 1, 10).unwrap();
    assert_eq!(
        checkpoint::prune(&run, 0, &keep(1, 0)).unwrap_err().kind(),
        ExitKind::Fenced
    );
    // One name in sixteen was not understood: its random part begins with an `a`.
    let names = [
        "a000-a0b1c2d3e4f50617",
        "a000-0123456789abcdef",
        "a001-a0b1c2d3e4f50617",
    ];
    let drafts = names.map(|name| {
        run.checkpoints_dir()
            .join(format!(".tmp-step-00000010-{name}"))
    });
    for draft in &drafts {
        fs::create_dir(draft).unwrap();
    }
    checkpoint::prune(&run, 1, &keep(1, 0)).unwrap();
    assert!(!old.dir().exists() && own.dir().exists());
    assert_eq!(drafts.map(|draft| draft.exists()), [false, false, true]);
}
