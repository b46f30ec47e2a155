//! What a run directory tells: numbers, processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Checksums of what the checkpoint of a step holds, by section; without the state of the loop, which
/// names times and attempts.
///
/// # Panics
/// There is no such checkpoint.
#[must_use]
pub fn checkpoint_sums(run: &Path, step: u64) -> BTreeMap<String, String> {
    let path = run.join(format!("checkpoints/step-{step:08}/manifest.json"));
    let manifest: Value =
        serde_json::from_slice(&fs::read(&path).expect("a checkpoint")).expect("JSON");
    manifest["sections"]
        .as_array()
        .expect("sections")
        .iter()
        .filter(|section| section["name"] != "state")
        .map(|section| {
            let text = |key: &str| section[key].as_str().expect("text").to_owned();
            (text("name"), text("sha256"))
        })
        .collect()
}

/// Loss, every term, gradient norm and learning rate of every step that was printed.
///
/// # Panics
/// There are no metrics.
#[must_use]
pub fn curve(run: &Path) -> Vec<Value> {
    let machine = [
        "samples_per_second",
        "wait_share",
        "wait_seconds",
        "bytes_read",
        "resident_bytes",
        "time",
    ];
    fs::read_to_string(run.join("metrics.jsonl"))
        .expect("metrics")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|line| line["kind"] == "train")
        .map(|mut line| {
            machine.iter().for_each(|key| {
                line.as_object_mut().expect("an object").remove(*key);
            });
            line
        })
        .collect()
}

/// The last step that was printed; 0 if none was.
#[must_use]
pub fn last_step(run: &Path) -> u64 {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let mut lines = text.lines().rev();
    let step = |line: &str| serde_json::from_str::<Value>(line).ok()?["step"].as_u64();
    lines.find_map(step).unwrap_or(0)
}

/// Folder of the highest attempt.
#[must_use]
pub fn attempt(run: &Path) -> Option<PathBuf> {
    let attempts = fs::read_dir(run.join("attempts")).ok()?;
    let mut attempts: Vec<PathBuf> = attempts
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    attempts.sort();
    attempts.pop()
}

/// The process of a rank in the highest attempt.
///
/// # Panics
/// It has shown no sign of life yet.
#[must_use]
pub fn pid_of_rank(run: &Path, rank: u32) -> i32 {
    let attempt = attempt(run).expect("an attempt");
    let beat = attempt.join(format!("ranks/{rank}.beat.json"));
    let beat: Value = serde_json::from_slice(&fs::read(beat).expect("a heartbeat")).expect("JSON");
    i32::try_from(beat["pid"].as_i64().expect("a pid")).expect("a pid")
}

/// The last lines of a text.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let mut tail = all[all.len().saturating_sub(lines)..].join("\n");
    tail.push('\n');
    tail
}

/// The id of the run that an output of `rocket submit` names.
///
/// # Panics
/// It names none.
#[must_use]
pub fn run_id(said: &str) -> String {
    let id = said.lines().find_map(|line| line.strip_prefix("run "));
    id.expect("a run id").trim().to_owned()
}
