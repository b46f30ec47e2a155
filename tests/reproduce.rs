//! A trained run in one file: exported, taken in by another clone, and reproduced there to the bit.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Project, Text, checkpoint_sums, curve};

const STEPS: u64 = 12;

/// A small CL2L model on photographs, over two ranks.
const SMALL: [&str; 15] = [
    "model.vision={arch: vit, width: 32, depth: 1, heads: 2, patch: 8, image_size: 32}",
    "model.embed_dim=16",
    "model.transformer_width=32",
    "model.transformer_heads=2",
    "model.transformer_layers=1",
    "data.root=photos/images",
    "data.metadata=photos/train.npy",
    "text.text_augment=true",
    "text.synonym_replacement_prob=0",
    "train.batch_size=4",
    "train.print_freq=1",
    "train.checkpoint_every=4 steps",
    "train.keep_last=3",
    "eval.datasets=[]",
    "cluster.tasks_per_node=2",
];

/// Copies the photographs into a repository, under a name that git ignores.
fn photos(into: &Path) {
    let from = support::root().join("tests/data/tiny");
    let images = into.join("images");
    fs::create_dir_all(&images).expect("a folder");
    fs::copy(from.join("train.npy"), into.join("train.npy")).expect("copied");
    for image in fs::read_dir(from.join("images"))
        .expect("photographs")
        .flatten()
    {
        fs::copy(image.path(), images.join(image.file_name())).expect("copied");
    }
}

/// Another clone on "another machine": with a folder of runs and photographs of its own.
struct Clone<'a> {
    project: &'a Project,
    path: PathBuf,
}

impl Clone<'_> {
    fn rocket(&self, args: &[&str]) -> std::process::Output {
        let mut command = self.project.command("rocket");
        command.current_dir(&self.path).args(args);
        command.output().expect("rocket starts")
    }

    fn run(&self, id: &str) -> PathBuf {
        self.path.join("runs").join(id)
    }

    fn verdict(&self, id: &str) -> Value {
        let said = self.rocket(&["reproduce", "--check", id, "--json"]);
        serde_json::from_slice(&said.stdout).expect("JSON")
    }
}

#[test]
fn an_exported_run_is_reproduced_to_the_bit_in_another_clone() {
    let project = Project::new(STEPS);
    project.write(".gitignore", "/data\n/runs\n/photos\n");
    project.commit("Photographs are no part of it");
    photos(&project.path().join("photos"));
    let run = project.submit(&SMALL);
    let original = project.finished(&run);
    let archive = project.path().join("runs/run.tar.zst");
    let file = archive.to_str().expect("a path of plain text");
    let said = project.rocket(&["export", &run, "-o", file]).ok();
    assert!(said.contains("the checkpoint of step 12"), "{said}");
    let bytes = fs::read(&archive).expect("an archive");
    project
        .rocket(&[
            "export",
            &run,
            "-o",
            file,
            "--force",
            "--checkpoint",
            "last",
        ])
        .ok();
    assert!(
        bytes == fs::read(&archive).expect("an archive"),
        "the same run gives the same bytes"
    );

    let place = tempfile::tempdir().expect("a folder");
    let clone = Clone {
        project: &project,
        path: place.path().join("clone"),
    };
    let to = clone.path.to_str().expect("a path of plain text");
    project.git(&["clone", "--quiet", ".", to]);
    photos(&clone.path.join("photos"));
    clone.rocket(&["import-run", file]).ok();
    let imported = clone.run(&run);
    assert_eq!(
        checkpoint_sums(&imported, STEPS),
        checkpoint_sums(&original, STEPS)
    );
    // Exported once more it still is that run.
    clone.rocket(&["export", &run, "--checkpoint", "12"]).ok();

    let said = clone
        .rocket(&["reproduce", &run, "--follow", "--exact"])
        .ok();
    assert!(
        said.contains("verdict       reproduced to the bit"),
        "{said}"
    );
    assert!(
        said.contains("same          processor, ranks, threads per rank, libtorch, programs"),
        "{said}"
    );
    let again = format!("{run}-2");
    assert_eq!(curve(&original).len() as u64, STEPS);
    assert_eq!(curve(&original), curve(&clone.run(&again)), "losses");
    assert_eq!(
        checkpoint_sums(&original, STEPS),
        checkpoint_sums(&clone.run(&again), STEPS),
        "weights"
    );

    // The data may lie elsewhere; with other threads it is another experiment.
    let elsewhere = place.path().join("elsewhere");
    fs::rename(clone.path.join("photos"), &elsewhere).expect("moved");
    let said = clone.rocket(&["reproduce", &run]);
    assert!(
        !said.status.success() && said.err().contains("(data.root)"),
        "{}",
        said.err()
    );
    let sets = [
        format!("data.root={}/images", elsewhere.display()),
        format!("data.metadata={}/train.npy", elsewhere.display()),
    ];
    let said = clone
        .rocket(&[
            "reproduce",
            &run,
            "--follow",
            "--set",
            &sets[0],
            "--set",
            &sets[1],
        ])
        .ok();
    assert!(said.contains(&format!("run {run}-3")), "{said}");
    assert!(
        said.contains("verdict       reproduced to the bit"),
        "{said}"
    );

    // Numbers that are not the same are found: here those of the import, changed by hand.
    let metrics = imported.join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).expect("metrics");
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let loss = lines[7]["loss"].as_f64().expect("a loss");
    lines[7]["loss"] = (loss * 1.001).into();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&metrics, text).expect("written");
    let verdict = clone.verdict(&again);
    assert_eq!(verdict["outcome"], "within", "{verdict:#}");
    assert_eq!(verdict["identical_up_to"], 7, "{verdict:#}");
    assert!(
        clone
            .rocket(&["reproduce", "--check", &again])
            .status
            .success()
    );
    assert!(
        !clone
            .rocket(&["reproduce", "--check", &again, "--exact"])
            .status
            .success()
    );

    // Programs that are gone, with others at hand: refused, and taken when asked to.
    let worker = project.path().join("other-worker");
    fs::write(&worker, "#!/bin/sh\nexit 1\n").expect("written");
    fs::remove_dir_all(clone.path.join("runs/bundles")).expect("removed");
    let with_other = |args: &[&str]| {
        let mut command = project.command("rocket");
        command
            .current_dir(&clone.path)
            .args(args)
            .env("ROCKET_WORKER", &worker);
        command.output().expect("rocket starts")
    };
    let said = with_other(&["reproduce", &run, "--set", &sets[0], "--set", &sets[1]]);
    assert!(!said.status.success());
    for part in [
        "are not here any more",
        "rocket-worker",
        "--build",
        "--these-programs",
    ] {
        assert!(said.err().contains(part), "{}", said.err());
    }
    let said = with_other(&[
        "reproduce",
        &run,
        "--set",
        &sets[0],
        "--set",
        &sets[1],
        "--these-programs",
        "--dry-run",
    ]);
    assert!(said.status.success(), "{}", said.err());

    // Tidied up, the original keeps its last checkpoint, and can still be exported and reproduced.
    assert_eq!(steps(&original), [4, 8, 12]);
    project.rocket(&["gc", "--yes", "--older-than", "0 s"]).ok();
    assert_eq!(steps(&original), [12]);
    let said = project.rocket(&["reproduce", &run, "--follow"]).ok();
    assert!(
        said.contains("verdict       reproduced to the bit"),
        "{said}"
    );
}

fn steps(run: &Path) -> Vec<u64> {
    let names = fs::read_dir(run.join("checkpoints"))
        .expect("checkpoints")
        .flatten();
    let mut steps: Vec<u64> = names
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix("step-")?
                .parse()
                .ok()
        })
        .collect();
    steps.sort_unstable();
    steps
}
