//! What goes wrong with data, disks and checkpoints: one clear sentence, the right end, nothing lost.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Project, Text, run_id};

/// Submits with overrides and follows to the end; gives the run's directory and everything printed.
fn follow(project: &Project, set: &[&str]) -> (PathBuf, String, bool) {
    let mut args = vec!["submit", "exp.yaml", "--again", "--follow"];
    for value in set {
        args.extend(["--set", value]);
    }
    let output = project.rocket(&args);
    let text = format!("{}{}", output.out(), output.err());
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("run "))
        .unwrap_or_default();
    let id = id.split_whitespace().next().unwrap_or_default();
    (
        project.path().join("runs").join(id),
        text,
        output.status.success(),
    )
}

/// Submits with overrides and leaves it running; gives the run's id and directory.
fn start(project: &Project, set: &[&str]) -> (String, PathBuf) {
    let mut args = vec!["submit", "exp.yaml"];
    for value in set {
        args.extend(["--set", value]);
    }
    let said = project.rocket(&args).ok();
    let id = run_id(&said);
    let run = project.path().join("runs").join(&id);
    (id, run)
}

/// Ends a run with its state saved.
fn cancel(project: &Project, id: &str) {
    project.rocket(&["cancel", id]).ok();
    project.wait_for(id, "end", |status| status["status"] == "cancelled");
}

fn contains(text: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(text.contains(part), "'{part}' is not said:\n{text}");
    }
    assert!(
        !text.contains("panicked") && !text.contains("stack backtrace"),
        "{text}"
    );
}

fn rank_log(run: &Path, attempt: &str, rank: u32) -> String {
    fs::read_to_string(run.join(format!("attempts/{attempt}/ranks/{rank}.log"))).expect("a log")
}

fn attempts(run: &Path) -> usize {
    fs::read_dir(run.join("attempts"))
        .expect("attempts")
        .flatten()
        .filter(|e| e.path().is_dir())
        .count()
}

#[test]
fn a_missing_image_folder_ends_the_run_at_once() {
    let project = Project::new(6);
    let (run, text, ok) = follow(&project, &["data.root=data/nowhere"]);
    assert!(!ok);
    contains(&text, &["data/nowhere"]);
    // Found at submission or by the ranks: never tried twice.
    assert!(
        !run.join("attempts").is_dir() || attempts(&run) <= 1,
        "{text}"
    );
}

#[test]
fn metadata_that_is_no_npy_is_named() {
    let project = Project::new(6);
    project.write("data/bad.npy", "image_id,caption\n");
    let (_, text, ok) = follow(&project, &["data.metadata=data/bad.npy"]);
    assert!(!ok);
    contains(&text, &["bad.npy"]);
}

#[test]
fn a_missing_image_is_counted_and_named_and_a_truncated_one_is_tolerated() {
    let project = Project::new(16);
    let folder = project.path().join("data/train");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("images")
        .flatten()
        .map(|e| e.path())
        .collect();
    files.sort();
    fs::remove_file(&files[3]).expect("removed");
    let photo = support::root().join("tests/data/tiny/images/flower_00.jpg");
    let photo = fs::read(photo).expect("a photo");
    fs::write(&files[5], &photo[..photo.len() - 40]).expect("a truncated JPEG");
    let truncated = files[5]
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let missing = files[3]
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let (run, text, ok) = follow(&project, &["data.max_bad=0.1", "train.print_freq=1"]);
    assert!(ok, "{text}");
    let logs = rank_log(&run, "000", 0) + &rank_log(&run, "000", 1);
    contains(&logs, &[&missing]);
    assert!(
        !logs.contains(&truncated),
        "a truncated image counts as readable:\n{logs}"
    );
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let last: Value = serde_json::from_str(
        metrics
            .lines()
            .rfind(|l| l.contains("train"))
            .expect("a line"),
    )
    .expect("JSON");
    assert!(last["bad_samples"].as_u64() >= Some(1), "{last}");

    // The same, over the share that is allowed.
    let (run, text, ok) = follow(&project, &["data.max_bad=0.001"]);
    assert!(!ok, "{text}");
    contains(&text, &["data.max_bad"]);
    assert_eq!(attempts(&run), 1, "bad data is not retried");
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_is_kept() {
    let project = Project::new(40);
    let set = [
        "optim.lr=1e15",
        "optim.lr_start=1e15",
        "optim.warmup_epochs=0",
        "train.print_freq=1",
    ];
    let (run, text, ok) = follow(&project, &set);
    assert!(!ok, "{text}");
    contains(&text, &["is not finite", "forensics"]);
    assert_eq!(
        attempts(&run),
        1,
        "a loss that is not finite is not retried"
    );
    let kept: Vec<PathBuf> = fs::read_dir(run.join("forensics"))
        .expect("a record")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    // One of each rank: which of them saw it first is not known before.
    assert_eq!(kept.len(), 2, "{kept:?}");
    let record: Value = serde_json::from_slice(&fs::read(&kept[0]).expect("read")).expect("JSON");
    assert_eq!(
        record["samples"][0].as_array().map(Vec::len),
        Some(4),
        "{record:#}"
    );
    assert!(record["terms"][0][0][0] == "loss", "{record:#}");
}

#[test]
fn a_flipped_byte_in_a_checkpoint_sends_the_run_to_the_one_before() {
    let project = Project::new(4000);
    let (id, run) = start(
        &project,
        &["train.checkpoint_every=5 steps", "train.keep_last=3"],
    );
    project.wait_for(&id, "three checkpoints", |_| {
        fs::read_dir(run.join("checkpoints")).is_ok_and(|dir| {
            dir.flatten()
                .filter(|e| e.file_name().to_string_lossy().starts_with("step-"))
                .count()
                >= 3
        })
    });
    cancel(&project, &id);
    let mut steps: Vec<PathBuf> = fs::read_dir(run.join("checkpoints"))
        .expect("checkpoints")
        .flatten()
        .map(|e| e.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("step-"))
        })
        .collect();
    steps.sort();
    let last = steps.pop().expect("a checkpoint");
    let before = steps.pop().expect("two checkpoints");
    let file = last.join("model.safetensors");
    let mut bytes = fs::read(&file).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("written");

    project.rocket(&["resume", &id]).ok();
    let step = |path: &Path| {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        name["step-".len()..].parse::<u64>().expect("a step")
    };
    project.wait_for(&id, "progress", |status| {
        status["step"].as_u64() > Some(step(&last))
    });
    project.rocket(&["cancel", "--now", &id]).ok();
    let events: String = fs::read_dir(run.join("events"))
        .expect("events")
        .flatten()
        .map(|entry| fs::read_to_string(entry.path()).expect("events"))
        .collect();
    let name = |path: &Path| {
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    let skipped = events
        .lines()
        .find(|line| line.contains("checkpoint_skipped"))
        .expect("said");
    contains(skipped, &[&name(&last), "model.safetensors"]);
    let restored = events
        .lines()
        .filter(|line| line.contains("\"restored\"") && line.contains(&name(&before)));
    assert_eq!(restored.count(), 1, "{events}");
}

#[test]
fn a_full_disk_fails_the_run_and_leaves_the_last_checkpoint() {
    if !nix_is_root() {
        eprintln!("skipped: a small file system can only be mounted by root");
        return;
    }
    let project = Project::new(400);
    let small = project.path().join("small");
    fs::create_dir(&small).expect("a folder");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=200m", "tmpfs"])
        .arg(&small)
        .status()
        .expect("mount starts");
    if !mounted.success() {
        eprintln!("skipped: tmpfs cannot be mounted here");
        return;
    }
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount")
                .arg("-l")
                .arg(self.0)
                .status();
        }
    }
    let _mounted = Mounted(&small);
    // Only the checkpoints lie on it: what is tested is a save that finds no room.
    let (id, run) = start(
        &project,
        &["train.checkpoint_every=20 steps", "train.keep_last=100"],
    );
    project.wait_for(&id, "checkpoint", |_| {
        run.join("checkpoints/step-00000020/manifest.json")
            .is_file()
    });
    cancel(&project, &id);
    let moved = std::process::Command::new("cp")
        .args(["-a"])
        .arg(run.join("checkpoints/."))
        .arg(&small)
        .status();
    let room_for_one = moved.expect("cp starts").success();
    fs::remove_dir_all(run.join("checkpoints")).expect("moved");
    std::os::unix::fs::symlink(&small, run.join("checkpoints")).expect("linked");
    let fill = fs::metadata(&small).is_ok() && room_for_one;
    assert!(fill, "the first checkpoints do not fit the small disk");
    let _ = std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=64k", "status=none"])
        .arg(format!("of={}", small.join("filler").display()))
        .status();

    let output = project.rocket(&["resume", &id]);
    output.ok();
    let status = project.wait_for(&id, "failure", |status| status["status"] == "failed");
    let text = status.to_string();
    contains(&text, &["disk is full"]);
    let left: Vec<String> = fs::read_dir(&small)
        .expect("checkpoints")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.starts_with("step-"))
        .collect();
    assert!(!left.is_empty(), "the last checkpoint is gone");

    // With room again it goes on.
    fs::remove_file(small.join("filler")).expect("removed");
    let _ = std::process::Command::new("mount")
        .args(["-o", "remount,size=2g"])
        .arg(&small)
        .status();
    project.rocket(&["resume", &id]).ok();
    project.wait_for(&id, "finish", |status| status["status"] == "finished");
}

fn nix_is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|text| text.lines().any(|line| line.starts_with("Uid:\t0\t")))
}

#[test]
fn a_worker_that_changed_after_submission_is_refused() {
    let project = Project::new(3000);
    let (id, run) = start(&project, &[]);
    project.wait_for(&id, "steps", |status| status["step"].as_u64() > Some(50));
    cancel(&project, &id);
    let manifest: Value =
        serde_json::from_slice(&fs::read(run.join("run.json")).expect("run.json")).expect("JSON");
    let bundle = PathBuf::from(manifest["bundle"]["dir"].as_str().expect("a bundle"));
    let name = manifest["bundle"]["files"]
        .as_object()
        .expect("files")
        .keys()
        .find(|name| name.ends_with("rocket-worker"))
        .expect("the worker")
        .clone();
    let worker = bundle.join(name);
    let mut bytes = fs::read(&worker).expect("the worker");
    bytes.push(0);
    let aside = worker.with_extension("aside");
    fs::write(&aside, bytes).expect("written");
    fs::set_permissions(&aside, fs::metadata(&worker).expect("there").permissions()).expect("set");
    fs::rename(aside, &worker).expect("replaced");
    let output = project.rocket(&["resume", &id]);
    let text = if output.status.success() {
        project
            .wait_for(&id, "refusal", |status| status["status"] == "failed")
            .to_string()
    } else {
        output.err()
    };
    contains(&text, &["rocket-worker"]);
}
