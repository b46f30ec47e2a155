//! Every child of the model family, on photographs: its loss falls, an interrupted run ends with the
//! numbers of one that was not, to the bit, and both are evaluated.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use support::{Project, Text, checkpoint_sums, curve, last_step};

const STEPS: u64 = 30;

/// Two ranks of a run on two cores: one child at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The photographs of tests/data and a model small enough for them.
fn experiment(child: &[&str]) -> (Project, Vec<String>) {
    let project = Project::new(STEPS);
    let photos = support::root().join("tests/data/tiny");
    let photos = photos.to_str().expect("a path of plain text");
    let catalog =
        json!({"tiny": {"path": format!("{photos}/eval"), "type": "imagefolder", "test": "val"}});
    project.write("dataset_catalog.json", &format!("{catalog:#}\n"));
    for name in ["labels.json", "templates.json"] {
        let text = fs::read_to_string(Path::new(photos).join(name)).expect("read");
        project.write(name, &text);
    }
    project.commit("Photographs");
    let mut overrides = vec![
        format!("data.root={photos}/images"),
        format!("data.metadata={photos}/train.npy"),
        "eval.datasets=[tiny]".to_owned(),
        "eval.eval_freq=2".to_owned(),
        "model.vision.image_size=32".to_owned(),
        "model.vision.width=32".to_owned(),
        "model.transformer_width=32".to_owned(),
        "model.embed_dim=32".to_owned(),
        "model.clip_hidden_dim=64".to_owned(),
        "optim.lr=2e-3".to_owned(),
        "augment.num_augs=2".to_owned(),
        "train.batch_size=9".to_owned(),
        "train.print_freq=1".to_owned(),
        "train.checkpoint_every=1000 steps".to_owned(),
    ];
    overrides.extend(child.iter().map(ToString::to_string));
    (project, overrides)
}

/// Scores in the order they were found.
fn scores(run: &Path) -> Vec<Value> {
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let lines = metrics
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut found: Vec<Value> = lines.filter(|line| line["kind"] == "eval").collect();
    for line in &mut found {
        line.as_object_mut().expect("an object").remove("time");
    }
    found
}

/// Mean of the loss over some steps.
fn mean_loss(curve: &[Value]) -> f64 {
    let losses = curve
        .iter()
        .map(|line| line["loss"].as_f64().expect("a loss"));
    losses.sum::<f64>() / curve.len() as f64
}

/// Waits for a run to fail, and gives what the status says of it.
fn fail(project: &Project, run: &str) -> String {
    let status = project.wait_for(run, "failure", |status| {
        assert_ne!(status["status"], "finished", "{status:#}");
        status["status"] == "failed"
    });
    status.to_string()
}

/// Trains it straight and interrupted, and compares.
fn trains(child: &[&str], term: &str) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (project, overrides) = experiment(child);
    let runs = project.path().join("runs");
    let straight = project.finished(&project.submit(&overrides));
    let wanted = curve(&straight);
    assert_eq!(wanted.len() as u64, STEPS);
    assert!(
        wanted[0][term].is_f64(),
        "there is no '{term}' in {}",
        wanted[0]
    );
    let (first, last) = (mean_loss(&wanted[..5]), mean_loss(&wanted[25..]));
    assert!(last < first, "the loss does not fall: {first} to {last}");
    let evaluated = scores(&straight);
    assert!(!evaluated.is_empty(), "nothing was evaluated");

    let stopped = project.submit(&overrides);
    let folder = runs.join(&stopped);
    let start = std::time::Instant::now();
    while last_step(&folder) < 11 {
        assert!(start.elapsed().as_secs() < 90, "step 11 is not reached");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    project.rocket(&["preempt", &stopped]).ok();
    project.finished(&stopped);
    let resumptions = project.status(&stopped)["resumptions"].as_u64();
    assert_eq!(resumptions, Some(1), "the run was not interrupted");
    for (wanted, found) in wanted.iter().zip(curve(&folder)) {
        assert_eq!(*wanted, found, "losses differ");
    }
    assert_eq!(
        checkpoint_sums(&straight, STEPS),
        checkpoint_sums(&folder, STEPS),
        "final weights or optimiser state differ"
    );
    assert_eq!(evaluated, scores(&folder), "scores differ");
}

#[test]
fn clip() {
    trains(&["model.base=CLIP", "model.child=CLIP"], "clip_loss");
}

#[test]
fn cl2l() {
    trains(
        &[
            "model.separate_proj=true",
            "train.label_smoothing=0.1",
            "train.loss_avg_or_sum=sum",
            "text.text_dropout_prob=0.1",
            "text.text_drop_path_prob=0.1",
        ],
        "clip_loss_image_local",
    );
}

#[test]
fn barlip() {
    trains(
        &[
            "model.child=BARLIP",
            "model.barlip_proj_dim=64",
            "model.barlip_hidden_dim=32",
        ],
        "barlip_loss",
    );
}

#[test]
fn siamlip() {
    trains(
        &[
            "model.child=SIAMLIP",
            "model.separate_proj_child=true",
            "model.siamlip_proj_dim=32",
            "model.siamlip_hidden_dim=64",
        ],
        "siamlip_loss",
    );
}

/// With everything that adds up over a step: momentum encoder, exact accumulation, recomputation.
#[test]
fn byolip() {
    trains(
        &[
            "model.child=SIAMLIP",
            "model.momentum=true",
            "model.siamlip_proj_dim=32",
            "model.siamlip_hidden_dim=64",
            "train.batch_size=4",
            "train.update_freq=2",
            "train.accumulate=exact",
            "train.checkpoint_grad=true",
            "train.checkpoint_segments=100",
        ],
        "siamlip_loss",
    );
}

#[test]
fn swalip() {
    trains(
        &["model.child=SWALIP", "train.precision=bf16"],
        "swalip_loss",
    );
}

/// The loss is scaled, and the scale is part of what is resumed.
#[test]
fn swalipv1() {
    trains(
        &[
            "model.base=CLIP",
            "model.child=SWALIPV1",
            "model.swalip_proj_dim=16",
            "model.swalip_hidden_dim=64",
            "model.swalip_num_proto=24",
            "train.swalip_freeze_proto_iters=8",
            "train.precision=fp16",
        ],
        "swalip_loss",
    );
}

/// A checkpoint goes to the original's form and back, and a new run goes on from it as the old one did.
#[test]
fn a_run_starts_from_a_checkpoint_of_the_original() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (project, mut overrides) = experiment(&["model.child=SIAMLIP", "model.momentum=true"]);
    overrides.retain(|value| !value.starts_with("train.checkpoint_every"));
    overrides.extend(
        [
            "train.checkpoint_every=4 steps",
            "train.keep_last=9",
            "train.max_steps=12",
            "model.siamlip_proj_dim=16",
            "model.siamlip_hidden_dim=32",
        ]
        .map(str::to_owned),
    );
    let first = project.finished(&project.submit(&overrides));
    // Four steps are an epoch, which is what the original counts.
    let ours = first.join("checkpoints/step-00000004");
    let theirs = project.path().join("runs/first.pt");
    let worker = project
        .command("rocket-worker")
        .arg("convert")
        .args([&ours, &theirs])
        .output();
    worker.expect("rocket-worker starts").ok();
    for source in [&theirs, &ours] {
        let mut again = overrides.clone();
        again.push(format!("train.resume={}", source.display()));
        let run = project.finished(&project.submit(&again));
        assert_eq!(curve(&run), curve(&first)[4..], "losses differ");
        assert_eq!(checkpoint_sums(&run, 12), checkpoint_sums(&first, 12));
    }

    // A run as a whole stands for its last checkpoint, and may be trained further.
    overrides.push(format!("train.resume={}", first.display()));
    let said = fail(&project, &project.submit(&overrides));
    assert!(
        said.contains("is at step 12, and this run ends at step 12"),
        "{said}"
    );
    let mut further = overrides.clone();
    further.push("train.max_steps=14".to_owned());
    let run = project.finished(&project.submit(&further));
    assert_eq!(curve(&run).len(), 2);
    assert!(run.join("checkpoints/step-00000014").is_dir());
    overrides.pop();

    let mut args = vec!["submit", "exp.yaml", "--set", "train.resume=nowhere.pt"];
    for value in &overrides {
        args.extend(["--set", value]);
    }
    let refused = project.rocket(&args);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.err());
    let said = "nowhere.pt' (train.resume), the checkpoint to start from, is not there";
    assert!(refused.err().contains(said), "{}", refused.err());

    overrides.push("model.embed_dim=24".to_owned());
    overrides.push(format!("train.resume={}", theirs.display()));
    let said = fail(&project, &project.submit(&overrides));
    for part in [
        "first.pt",
        "image_projector.weight is [24, 32] here, [32, 32] there",
    ] {
        assert!(said.contains(part), "no '{part}' in {said}");
    }
}

/// A gradient that no scale of the loss makes fit ends the run, which says so.
#[test]
fn a_storm_of_overflows_stops_with_its_cause() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (project, mut overrides) = experiment(&[
        "model.child=BARLIP",
        "model.barlip_proj_dim=16",
        "model.barlip_hidden_dim=16",
        "train.barlip_scale_loss=1e25",
        "train.precision=fp16",
    ]);
    overrides.push("eval.eval_freq=0".to_owned());
    let said = fail(&project, &project.submit(&overrides));
    assert!(said.contains("24 steps in a row"), "{said}");
    assert!(said.contains("train.precision: bf16"), "{said}");
}
