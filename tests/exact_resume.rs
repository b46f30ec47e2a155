//! A run that was interrupted, in whatever way and wherever, ends with the weights, the optimiser
//! state and the losses of one that was not, to the bit.
//!
//! Four ranks, at least three gradient buckets and two micro-batches per step: with fewer, a wrong
//! order of sums would not show.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Project, Text, checkpoint_sums, curve, last_step, pid_of_rank};

const STEPS: u64 = 80;

/// The experiment: dropout, batch norm over ranks, checkpoints that do not fall on interruptions.
const OVERRIDES: [&str; 14] = [
    "model.vision.width=64",
    "model.vision.depth=2",
    "model.transformer_width=32",
    "model.clip_proj_type=mlp",
    "model.clip_hidden_dim=64",
    "text.text_augment=true",
    "text.synonym_replacement_prob=0",
    "text.text_dropout_prob=0.1",
    "augment.num_augs=2",
    "train.update_freq=2",
    "train.batch_size=2",
    "train.bucket_cap_mb=0.05",
    "train.checkpoint_every=7 steps",
    "cluster.tasks_per_node=4",
];

/// Submits the experiment once more, and gives the run's id.
fn submit(project: &Project) -> String {
    let set = OVERRIDES.into_iter().chain(["train.print_freq=1"]);
    project.submit(&set.collect::<Vec<_>>())
}

fn run_dir(project: &Project, run: &str) -> PathBuf {
    project.path().join("runs").join(run)
}

/// Checksums of what the final checkpoint holds.
fn final_state(run: &Path) -> BTreeMap<String, String> {
    checkpoint_sums(run, STEPS)
}

fn pid_of_supervisor(run: &Path) -> i32 {
    let claim = fs::read(run.join("attempts/000.claim")).expect("a claim");
    let claim: Value = serde_json::from_slice(&claim).expect("JSON");
    i32::try_from(claim["pid"].as_i64().expect("a pid")).expect("a pid")
}

fn kill(pid: i32) {
    let done = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(
        done.expect("kill starts").success(),
        "process {pid} was gone already"
    );
}

/// Waits until the run has made `step` steps.
fn reach(project: &Project, run: &str, step: u64) {
    let run = run_dir(project, run);
    let start = std::time::Instant::now();
    while last_step(&run) < step {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "step {step} is not reached"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn interruptions_leave_no_trace_in_the_numbers() {
    let project = Project::new(STEPS);

    let straight = submit(&project);
    project.finished(&straight);
    let straight = run_dir(&project, &straight);
    let log = fs::read_to_string(straight.join("attempts/000/ranks/0.log")).expect("a log");
    let buckets = log
        .split(" gradient buckets")
        .next()
        .and_then(|head| head.rsplit(' ').next()?.parse::<u32>().ok())
        .expect("the number of buckets");
    assert!(
        buckets >= 3,
        "{buckets} buckets do not show a wrong order of sums"
    );
    let wanted = (final_state(&straight), curve(&straight));
    assert_eq!(wanted.1.len() as u64, STEPS);

    // Asked to stop, twice: in the middle of an epoch and soon after a resumption.
    let stopped = submit(&project);
    for step in [5, 18] {
        reach(&project, &stopped, step);
        project.rocket(&["preempt", &stopped]).ok();
        project.wait_for(&stopped, "resumption", |status| {
            status["resumptions"].as_u64() >= Some(if step == 5 { 1 } else { 2 })
        });
    }
    project.finished(&stopped);
    compare("stopped", &wanted, &run_dir(&project, &stopped));

    // A rank killed between two checkpoints: relaunched by itself.
    let crashed = submit(&project);
    reach(&project, &crashed, 11);
    kill(pid_of_rank(&run_dir(&project, &crashed), 2));
    project.finished(&crashed);
    compare("crashed", &wanted, &run_dir(&project, &crashed));

    // The supervisor killed: no rank lives on, and a person resumes the run.
    let orphaned = submit(&project);
    reach(&project, &orphaned, 24);
    let dir = run_dir(&project, &orphaned);
    let ranks: Vec<i32> = (0..4).map(|rank| pid_of_rank(&dir, rank)).collect();
    kill(pid_of_supervisor(&dir));
    project.wait_for(&orphaned, "lost supervisor", |status| {
        status["status"] == "lost"
    });
    for pid in ranks {
        let start = std::time::Instant::now();
        while Path::new(&format!("/proc/{pid}/exe")).exists()
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok()
        {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "rank {pid} outlives its supervisor"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    project.rocket(&["resume", &orphaned]).ok();
    project.finished(&orphaned);
    compare("orphaned", &wanted, &dir);
}

/// The score of an attempt that only evaluated was in no checkpoint: the best weights were unknown to
/// `rocket eval`, and could be pruned.
#[test]
fn a_score_reaches_the_checkpoint_that_was_saved_before_its_evaluation() {
    let project = Project::new(4);
    let classes = fs::read_dir(project.path().join("data/shapes/test")).expect("classes");
    let mut classes: Vec<PathBuf> = classes
        .map(|class| class.expect("a class").path())
        .collect();
    classes.sort();
    // More than one batch, so that there is something to leave out.
    for class in &classes {
        for copy in 1..100 {
            fs::hard_link(class.join("0.png"), class.join(format!("{copy}.png"))).expect("linked");
        }
    }
    let drawing = classes[0].join("0.png");
    let bytes = fs::read(&drawing).expect("a drawing");
    let whole = project.path().join("whole.png");
    fs::rename(&drawing, &whole).expect("renamed");
    // The evaluation waits for its first drawing until somebody writes it.
    let made = Command::new("mkfifo").arg(&drawing).status();
    assert!(made.expect("mkfifo starts").success());
    let run = project.submit(&["eval.datasets=[shapes]", "train.keep_best=1"]);
    let dir = run_dir(&project, &run);
    let attempt = dir.join("attempts/000");
    let wait = |what: &str, file: &str, word: &str| {
        let start = std::time::Instant::now();
        while !fs::read_to_string(attempt.join(file)).is_ok_and(|text| text.contains(word)) {
            assert!(start.elapsed() < Duration::from_secs(60), "no {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("evaluation", "ranks/0.beat.json", r#""evaluating""#);
    project.rocket(&["preempt", &run]).ok();
    wait("stop", "control.json", r#""preempted""#);
    // A rank looks there four times in a second.
    std::thread::sleep(Duration::from_secs(2));
    let mut pipe = fs::OpenOptions::new()
        .write(true)
        .open(&drawing)
        .expect("a reader");
    fs::rename(&whole, &drawing).expect("renamed");
    pipe.write_all(&bytes).expect("written");
    drop(pipe);
    project.finished(&run);
    assert_eq!(project.status(&run)["resumptions"], 1, "it was interrupted");
    let manifest = fs::read(dir.join("checkpoints/step-00000004/manifest.json"));
    let manifest: Value = serde_json::from_slice(&manifest.expect("a manifest")).expect("JSON");
    assert_eq!(manifest["attempt"], 0, "{manifest:#}");
    assert!(manifest["metrics"]["z_top1"].is_f64(), "{manifest:#}");
}

fn compare(what: &str, wanted: &(BTreeMap<String, String>, Vec<Value>), run: &Path) {
    let restored = fs::read_dir(run.join("events"))
        .expect("events")
        .flatten()
        .flat_map(|entry| {
            let text = fs::read_to_string(entry.path()).expect("events");
            text.lines()
                .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
                .collect::<Vec<_>>()
        })
        .filter(|event| event["event"] == "restored" && event["name"].is_string())
        .count();
    assert!(
        restored > 0,
        "{what}: the run was not resumed from a checkpoint"
    );
    let found = curve(run);
    for (wanted, found) in wanted.1.iter().zip(&found) {
        assert_eq!(wanted, found, "{what}: losses differ");
    }
    assert_eq!(
        wanted.1.len(),
        found.len(),
        "{what}: steps are missing from metrics.jsonl"
    );
    assert_eq!(
        wanted.0,
        final_state(run),
        "{what}: final weights or optimiser state differ"
    );
}
