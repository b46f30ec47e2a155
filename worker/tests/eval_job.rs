//! Evaluations as `rocket eval` starts them: ranks that meet over Gloo, on uneven shares of a set.

mod eval_support;
mod run_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use eval_support::write_json;
use rocket_common::checkpoint::dir_name;
use rocket_common::events;
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::protocol::{self, Outcome};
use rocket_common::run_dir::{Claim, Evaluation, Manifest, RunDir};
use serde_json::{Value, json};
use tempfile::TempDir;

const STEP: u64 = 10;
const YAML: &str = "
name: tiny
model:
  base: CL2L
  child: CL2L
  separate_proj: true
  vision: {arch: vit, width: 16, depth: 1, heads: 2, patch: 16, image_size: 32}
  embed_dim: 8
  clip_hidden_dim: 16
  transformer_width: 16
  transformer_layers: 1
  transformer_heads: 2
eval:
  datasets: [tiny]
  batch_size: 3
data: {root: /nowhere, metadata: /nowhere/x.npy, workers: 1}
cluster: {nodes: 1, gpus_per_node: 0, tasks_per_node: 1, device: cpu}
";

/// A run with one checkpoint, and a catalog of two sets of which the second has the first's images.
struct World {
    root: TempDir,
    run: RunDir,
    experiment: Experiment,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let experiment = run_support::experiment(YAML);
        let run = run_support::create(root.path(), &experiment);
        run_support::save(&run, &run_support::model(&experiment, 1), STEP, &[]);
        Self {
            root,
            run,
            experiment,
        }
    }

    /// An evaluation run as the orchestrator makes it, with the pinned files of an attempt.
    fn evaluation(&self, id: &str, change: impl FnOnce(&mut Evaluation)) -> RunDir {
        let mut evaluation = Evaluation {
            run: self.run.path().to_path_buf(),
            step: STEP,
            datasets: vec!["tiny".into(), "other".into(), "absent".into()],
            ready_only: true,
            again: true,
            details: true,
        };
        change(&mut evaluation);
        let manifest = Manifest {
            schema: Manifest::EVALUATION_SCHEMA,
            run_id: id.to_owned(),
            evaluation: Some(evaluation),
            ..self.run.manifest().expect("a manifest")
        };
        let yaml = self.experiment.to_yaml();
        let made = RunDir::create(self.root.path(), &manifest, &yaml).expect("made");
        let pin = made.path().join("pin");
        fs::create_dir_all(&pin).expect("created");
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny");
        let read = |name: &str| -> Value {
            serde_json::from_slice(&fs::read(data.join(name)).expect("read")).expect("JSON")
        };
        for name in ["labels.json", "templates.json"] {
            let mut value = read(name);
            for set in ["other", "absent"] {
                value[set] = value["tiny"].clone();
            }
            write_json(&pin.join(name), &value);
        }
        let entry = json!({"path": data.join("eval"), "type": "imagefolder", "test": "val"});
        let absent = json!({"path": "/nowhere/at/all", "type": "imagefolder", "test": "val"});
        let catalog = json!({"tiny": entry, "other": entry, "absent": absent});
        write_json(&pin.join("dataset_catalog.json"), &catalog);
        made
    }

    /// Starts an attempt on `world` ranks and waits for all; what they left, and what they said.
    fn attempt(
        &self,
        made: &RunDir,
        world: u32,
    ) -> Vec<(Option<i32>, protocol::EndRecord, String)> {
        let claim = Claim::of_this_process(None);
        let attempt = made.claim_attempt(&claim).expect("claimed");
        let ranks: Vec<_> = (0..world)
            .map(|rank| {
                Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
                    .args(["eval", "--job"])
                    .env("ROCKET_RUN_DIR", made.path())
                    .env("ROCKET_ATTEMPT", attempt.number().to_string())
                    .env("RANK", rank.to_string())
                    .env("WORLD_SIZE", world.to_string())
                    .env("LOCAL_RANK", rank.to_string())
                    .env("MASTER_ADDR", "127.0.0.1")
                    .env_remove("MASTER_PORT")
                    .env_remove("ROCKET_PIN_DIR")
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .expect("started")
            })
            .collect();
        ranks
            .into_iter()
            .zip(0..)
            .map(|(rank, number)| {
                let output = rank.wait_with_output().expect("ended");
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let end = protocol::read_end(&attempt, number).expect("read");
                let end = end.unwrap_or_else(|| panic!("no last words: {said}"));
                (output.status.code(), end, said)
            })
            .collect()
    }

    fn finishes(&self, made: &RunDir, world: u32) -> String {
        let ended = self.attempt(made, world);
        for (code, end, said) in &ended {
            assert_eq!((*code, end.outcome), (Some(0), Outcome::Finished), "{said}");
        }
        ended[0].2.clone()
    }

    fn result(&self, dir: &Path, name: &str) -> Value {
        let file = dir.join("eval").join(name);
        serde_json::from_slice(&fs::read(&file).unwrap_or_else(|e| panic!("{file:?}: {e}")))
            .expect("JSON")
    }

    fn classifiers(&self) -> Vec<PathBuf> {
        let dir = self.run.eval_dir().join("classifiers");
        let mut all: Vec<PathBuf> = fs::read_dir(dir)
            .expect("class embeddings")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        all.sort();
        all
    }
}

#[test]
fn figures_over_ranks_that_really_meet_are_those_of_one() {
    let world = World::new();
    let mut seen: Vec<(Value, Value)> = Vec::new();
    for ranks in 1..=3 {
        let made = world.evaluation(&format!("eval-tiny-01234567-{}", ranks + 1), |_| {});
        let said = world.finishes(&made, ranks);
        assert!(said.contains("absent is left out"), "{said}");
        let name = format!("tiny-step-{STEP}.json");
        let result = world.result(world.run.path(), &name);
        assert_eq!(result, world.result(made.path(), &name));
        // 8 images in batches of 3: the shares are uneven at every number of ranks.
        assert_eq!(result["samples"], 8);
        let details = world.result(world.run.path(), &format!("classes/{name}"));
        seen.push((result, details));
        // The first evaluation computes the class embeddings, the later ones read them. Both sets have
        // the same prompts, and files of their own.
        assert_eq!(world.classifiers().len(), 2);
    }
    assert!(seen.iter().all(|other| *other == seen[0]), "{seen:#?}");
    let (result, details) = &seen[0];
    let heads = result["heads"].as_array().expect("heads");
    assert_eq!(heads.len(), 11);
    for (head, detail) in heads
        .iter()
        .zip(details["heads"].as_array().expect("heads"))
    {
        let cells = detail["confusion"].as_array().expect("cells");
        let of = |cell: &Value, at: usize| cell[at].as_u64().expect("a number");
        let right: u64 = cells
            .iter()
            .filter(|c| of(c, 0) == of(c, 1))
            .map(|c| of(c, 2))
            .sum();
        assert_eq!(head["top1_count"].as_u64(), Some(right), "{detail}");
        assert_eq!(cells.iter().map(|cell| of(cell, 2)).sum::<u64>(), 8);
    }
    // In the history of the run that was scored, without an attempt and without a step.
    let told = events::read(&world.run).expect("events");
    assert_eq!(told.len(), 6, "{told:#?}");
    assert!(
        told.iter()
            .all(|event| event.attempt.is_none() && event.step.is_none())
    );
}

#[test]
fn what_has_a_result_is_passed_over_and_the_rest_goes_on() {
    let world = World::new();
    let made = world.evaluation("eval-tiny-01234567", |_| {});
    world.finishes(&made, 1);
    // As if it had been preempted after the first set.
    let file = format!("eval/other-step-{STEP}.json");
    fs::remove_file(made.path().join(&file)).expect("removed");
    fs::remove_file(world.run.path().join(&file)).expect("removed");
    let said = world.finishes(&made, 2);
    assert!(said.contains("tiny: scored already"), "{said}");
    assert!(world.run.path().join(&file).is_file());

    // Another evaluation, which is not to score again.
    let other = world.evaluation("eval-tiny-01234567-2", |of| of.again = false);
    let said = world.finishes(&other, 1);
    assert!(said.contains("tiny: scored already") && said.contains("other: scored already"));

    // Class embeddings that are damaged are computed anew.
    for file in world.classifiers() {
        fs::write(file, b"no safetensors").expect("written");
    }
    let third = world.evaluation("eval-tiny-01234567-3", |_| {});
    let said = world.finishes(&third, 1);
    assert!(said.contains("is computed anew"), "{said}");
}

#[test]
fn what_cannot_be_evaluated_ends_every_rank_with_the_reason() {
    let world = World::new();
    let wrong = |id: &str, change: &dyn Fn(&mut Evaluation), kind: ExitKind, words: &str| {
        let made = world.evaluation(id, |of| change(of));
        for (code, end, said) in world.attempt(&made, 1) {
            assert_eq!(code, Some(i32::from(kind.code())), "{said}");
            let cause = end.cause.unwrap_or_default();
            assert!(cause.contains(words), "{cause}");
        }
    };
    let strict = |of: &mut Evaluation| of.ready_only = false;
    wrong(
        "eval-tiny-01234567",
        &strict,
        ExitKind::Data,
        "entry 'absent': there is no folder",
    );
    let gone = |of: &mut Evaluation| of.step = 11;
    wrong(
        "eval-tiny-01234567-2",
        &gone,
        ExitKind::Checkpoint,
        "checkpoint step-00000011 of run",
    );
    let nothing = |of: &mut Evaluation| of.datasets = vec!["absent".into()];
    wrong(
        "eval-tiny-01234567-3",
        &nothing,
        ExitKind::Data,
        "no evaluation set is there",
    );

    // The checkpoint that the evaluation holds itself goes before the run's, and is checked.
    let made = world.evaluation("eval-tiny-01234567-4", |_| {});
    let own = made.checkpoints_dir().join(dir_name(STEP));
    fs::create_dir_all(&own).expect("created");
    for entry in fs::read_dir(world.run.checkpoints_dir().join(dir_name(STEP))).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), own.join(entry.file_name())).expect("copied");
    }
    let weights = own.join("model.safetensors");
    let mut bytes = fs::read(&weights).expect("the weights");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).expect("written");
    for (code, end, said) in world.attempt(&made, 1) {
        assert_eq!(code, Some(i32::from(ExitKind::Checkpoint.code())), "{said}");
        let cause = end.cause.unwrap_or_default();
        assert!(cause.contains("does not match its checksum"), "{cause}");
    }
}
