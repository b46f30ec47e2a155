//! `rocket repro`: runs of a list in the original's form, shrunk, trained to the end and compared.

use std::path::Path;

use support::{Project, Text, curve, run_id};

const LIST: &str = "\
# runs

## rocket
bash run.sh run_with_submitit.py --model CL2L_R50_CL2L --wandb --dataset cc3m --wd 0.5 --name rocket --separate-proj --label-smoothing 0.1 --transformer-layers 6 --text-dropout-prob 0.2 --text-augment --metadata /path/to/cc3m.npy --root /path/to/cc3m --epochs 32 --nodes 4 --batch-size 128 --use_volta32
--seed 0,50

## others
bash run.sh run_with_submitit.py --model CL2L_R50_BARLIP --wandb --dataset cc3m --name barlip --separate-proj --text-augment --metadata /path/to/cc3m.npy --root /path/to/cc3m --epochs 32 --nodes 4 --batch-size 128 --checkpoint-grad
";

/// What makes them small enough for a test.
const SMALL: [&str; 17] = [
    "model.vision={arch: vit, width: 32, depth: 1, heads: 2, patch: 8, image_size: 32}",
    "model.embed_dim=16",
    "model.clip_hidden_dim=32",
    // Heads of their own are 4096 wide, as in the reference.
    "model.separate_proj=false",
    "model.transformer_width=32",
    "model.transformer_heads=2",
    "model.transformer_layers=1",
    "text.synonym_replacement_prob=0",
    "train.max_steps=4",
    "train.batch_size=6",
    "train.print_freq=1",
    "eval.datasets=[]",
    "cluster.backend=local",
    "cluster.nodes=1",
    "cluster.gpus_per_node=0",
    "cluster.tasks_per_node=2",
    "cluster.device=cpu",
];

#[test]
fn three_runs_of_a_list_are_trained_to_the_end_and_compared() {
    let project = Project::new(4);
    let photos = support::root().join("tests/data/tiny");
    let photos = photos.to_str().expect("a path of plain text");
    project.write("list.txt", LIST);
    let maps = [
        format!("/path/to/cc3m.npy={photos}/train.npy"),
        format!("/path/to/cc3m={photos}/images"),
    ];
    let mut args = vec!["repro", "list.txt"];
    for set in &SMALL {
        args.extend(["--set", set]);
    }
    for map in &maps {
        args.extend(["--map", map]);
    }
    let with = |more: &[&'static str]| [&args[..], more].concat();
    let said = project.rocket(&with(&["--submit"])).ok();
    let ids: Vec<String> = said.lines().map(run_id).collect();
    let names = ["rocket-seed_0", "rocket-seed_50", "barlip"];
    assert_eq!(ids.len(), names.len(), "{said}");
    for (id, name) in ids.iter().zip(names) {
        assert!(id.starts_with(&format!("{name}-")), "{id} is not {name}");
        project.wait_for(id, "end", |status| status["status"] == "finished");
    }
    let run = |id: &String| project.path().join("runs").join(id);
    let curves: Vec<_> = ids.iter().map(|id| curve(&run(id))).collect();
    assert!(curves.iter().all(|curve| curve.len() == 4), "{curves:?}");
    assert_ne!(
        curves[0][0]["loss"], curves[1][0]["loss"],
        "a seed is a seed"
    );
    assert!(
        curves[2][3]["barlip_loss"].as_f64().is_some(),
        "{:?}",
        curves[2]
    );
    // What was asked for by --wandb is there.
    assert!(has_wandb(&run(&ids[0])), "{}", ids[0]);

    // All are there, of this recipe: nothing is open.
    let said = project.rocket(&with(&["--check"])).ok();
    assert!(said.contains("barlip") && !said.contains("open"), "{said}");
    // Without the sets they are other experiments, which nobody ran.
    let said = project.rocket(&["repro", "list.txt", "--check"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(said.out().contains("with another recipe"), "{}", said.out());

    // The same again is refused run by run, and starts nothing.
    let said = project.rocket(&with(&["--submit"]));
    assert_eq!(said.status.code(), Some(1));
    assert!(
        said.err().contains("3 of 3 runs were not submitted"),
        "{}",
        said.err()
    );
}

fn has_wandb(run: &Path) -> bool {
    let folder = std::fs::read_dir(run.join("wandb"));
    folder.is_ok_and(|folder| folder.flatten().count() > 0)
}
