//! The resolved form: defaults, round trips, and the recipe hash.

use std::path::Path;

use proptest::prelude::*;
use rocket_common::experiment::*;

const GOOD: &str =
    "name: demo\nmodel: {name: CL2L_R50_CL2L}\ndata: {root: images, metadata: train.npy}\n";

fn read_set(text: &str, set: &[&str]) -> Experiment {
    let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
    let environment = |name: &str| (name == "DATA").then(|| "/data set".to_owned());
    match parse_with("exp.yaml", text, &set, &environment) {
        Ok(experiment) => experiment,
        Err(found) => panic!("{found:?}"),
    }
}

fn read(text: &str) -> Experiment {
    read_set(text, &[])
}

#[test]
fn the_resolved_form_shows_everything() {
    insta::assert_snapshot!(read(GOOD).to_yaml());
    insta::assert_snapshot!(read("name: other\ncommand: [python, train.py, 3]\n").to_yaml());
}

#[test]
fn names_are_split_into_their_parts() {
    let model = read(GOOD).model;
    assert_eq!(model.name, None);
    assert_eq!(
        (model.base, model.child),
        (Some(Base::Cl2l), Some(Child::Cl2l))
    );
    assert_eq!(model.vision, Some(Vision::Named("R50".into())));
    let moco = Vision::Named("VITS16MOCO".into()).vit().unwrap();
    let plain = Vision::Named("VITS16".into()).vit().unwrap();
    assert_eq!((moco.heads, plain.heads), (12, 6));
    assert_eq!(VitDims { heads: 6, ..moco }, plain);
}

#[test]
fn numbers_are_read_as_people_write_them() {
    for (text, lr) in [
        ("3e-3", 3e-3),
        ("3.E-3", 3e-3),
        ("1", 1.0),
        ("+.5", 0.5),
        ("1e0", 1.0),
        ("0x10", 16.0),
    ] {
        assert_eq!(
            read_set(GOOD, &[&format!("optim.lr={text}")]).optim.lr,
            lr,
            "{text}"
        );
    }
    for (text, steps) in [("1e5", 100_000), ("300", 300), ("64.0", 64)] {
        let set = format!("train.max_steps={text}");
        assert_eq!(
            read_set(GOOD, &[&set]).train.max_steps,
            Some(steps),
            "{text}"
        );
    }
    assert_eq!(
        read_set(GOOD, &["seed=18446744073709551615"]).seed,
        u64::MAX
    );
    for (text, every) in [
        ("500", Every::Steps(500)),
        ("500 steps", Every::Steps(500)),
        ("1 step", Every::Steps(1)),
        ("10 minutes", Every::Minutes(10.0)),
        ("10min", Every::Minutes(10.0)),
        ("0.5 minutes", Every::Minutes(0.5)),
        ("2 hours", Every::Minutes(120.0)),
    ] {
        let set = format!("train.checkpoint_every={text}");
        assert_eq!(
            read_set(GOOD, &[&set]).train.checkpoint_every,
            every,
            "{text}"
        );
    }
}

#[test]
fn overrides_win_and_the_later_one_wins() {
    let read = read_set(
        GOOD,
        &[
            "optim.lr=1",
            "optim.lr=2",
            "eval={datasets: [a, b]}",
            "train.max_steps=~",
        ],
    );
    assert_eq!(read.optim.lr, 2.0);
    assert_eq!(read.eval.datasets, ["a", "b"]);
    assert_eq!(read.train.max_steps, None);
    let set = [
        "model.name=~",
        "model.base=CLIP",
        "model.child=CLIP",
        "model.vision.arch=vit",
        "model.vision.width=64",
        "model.vision.depth=2",
        "model.vision.heads=2",
        "model.vision.patch=8",
        "model.vision.image_size=32",
    ];
    let read = read_set(GOOD, &set);
    assert_eq!((read.image_size(), read.strong_view_size()), (32, 32));
}

#[test]
fn time_and_memory_are_read_as_slurm_reads_them() {
    for (text, seconds, shown) in [
        ("30", 1800, "00:30:00"),
        ("0:30", 30, "00:00:30"),
        ("90:30", 5430, "01:30:30"),
        ("2:00:00", 7200, "02:00:00"),
        ("3-00:00:00", 259_200, "3-00:00:00"),
        ("1-2", 93_600, "1-02:00:00"),
        ("1-2:30", 95_400, "1-02:30:00"),
        ("100:00:00", 360_000, "4-04:00:00"),
    ] {
        let limit: TimeLimit = text.parse().unwrap();
        assert_eq!(limit, TimeLimit::Seconds(seconds), "{text}");
        assert_eq!(limit.to_string(), shown, "{text}");
        let read = read_set(
            GOOD,
            &[
                &format!("cluster.time={text}"),
                "cluster.stop_grace_seconds=1",
            ],
        );
        assert_eq!(read.cluster.time, Some(limit), "{text}");
    }
    let short: TimeLimit = "0:30".parse().unwrap();
    assert_eq!(short.granted_seconds(), Some(60));
    for text in ["UNLIMITED", "infinite", "-1"] {
        assert_eq!(text.parse(), Ok(TimeLimit::Unlimited));
    }
    for (text, shown) in [
        ("400G", "400G"),
        ("0", "0"),
        ("0G", "0"),
        ("1500", "1500"),
        ("64gb", "64G"),
    ] {
        let read = read_set(GOOD, &[&format!("cluster.mem={text}")]);
        assert_eq!(read.cluster.mem.unwrap().as_str(), shown, "{text}");
    }
}

#[test]
fn what_slurm_is_asked_for_is_read_and_shown() {
    let text = format!(
        "{GOOD}cluster:
  nodes: 2
  partition: learn
  account: 0123
  constraint: a100|h100
  use_volta32: true
  exclude: ['n[1-2]', n7]
  mail_type: [END, TIME_LIMIT_80]
  time: 2:00:00
  mem: 0
  setup: ['module load cuda', 'export A=\"$(date)\"']
  env: {{THREADS: 1, NCCL_DEBUG: INFO, EMPTY: ''}}
  secrets: [HF_TOKEN]
  extra: {{exclusive: true, switches: 1@1:00:00, gres: 'nvme:1', nice: 1.50}}
  srun_extra: {{cpu-bind: cores}}
"
    );
    let read = read(&text);
    let cluster = &read.cluster;
    assert_eq!(cluster.features().as_deref(), Some("(a100|h100)&volta32gb"));
    let options: Vec<String> = cluster
        .extra
        .iter()
        .map(|(name, flag)| flag.option(name))
        .collect();
    assert_eq!(
        options,
        [
            "--exclusive",
            "--gres=nvme:1",
            "--nice=1.50",
            "--switches=1@1:00:00"
        ]
    );
    let yaml = read.to_yaml();
    insta::assert_snapshot!(&yaml[yaml.find("cluster:").unwrap()..]);
    assert_eq!(Experiment::from_resolved(&yaml).unwrap(), read);
}

#[test]
fn paths_are_expanded_once() {
    let read = read_set(GOOD, &["data.root=$DATA/${DATA}x", "data.metadata=a$$b"]);
    assert_eq!(read.data.root, Path::new("/data set//data setx"));
    assert_eq!(read.data.metadata, Path::new("a$b"));
    let again = Experiment::from_resolved(&read.to_yaml()).unwrap();
    assert_eq!(again, read);
}

#[test]
fn a_resolved_file_changed_by_hand_is_refused_in_full() {
    let text = read(GOOD)
        .to_yaml()
        .replace("lr: 0.003", "lr: 0.003x")
        .replace("epochs: 25", "epoch: 25");
    let error = Experiment::from_resolved(&text).unwrap_err();
    assert_eq!(error.message().lines().count(), 2, "{error}");
    assert_eq!(error.kind(), rocket_common::exit::ExitKind::Experiment);
}

#[test]
fn the_recipe_hash_is_what_it_was() {
    // Whoever changes this changes the identity of every recipe there is: raise RECIPE_SCHEMA.
    assert_eq!(RECIPE_SCHEMA, 1);
    let experiment = read_set(GOOD, &["train.label_smoothing=0.1", "cluster.nodes=2"]);
    assert_eq!(
        experiment.recipe().to_string(),
        r#"{"model":{"base":"CL2L","vision":"R50","child":"CL2L"},"train":{"label_smoothing":0.1},"world_size":16}"#
    );
    // SHA-256 of the same with its keys sorted.
    assert_eq!(experiment.recipe_hash(), "1-0e41bb4ff7817b8d");
}

#[test]
fn the_recipe_hash_covers_what_decides_numbers() {
    let base = read(GOOD).recipe_hash();
    for set in [
        "seed=1",
        "model.embed_dim=128",
        "model.separate_proj=true",
        "data.dataset=cc12m",
        "data.caption_sampling=multi",
        "augment.blur_prob=0",
        "text.truncate=false",
        "optim.lr=1",
        "optim.betas=[0.9, 0.9]",
        "train.epochs=1",
        "train.max_steps=5",
        "train.batch_size=1",
        "train.update_freq=2",
        "train.threads=2",
        "train.bucket_cap_mb=1",
        "cluster.nodes=1",
        "cluster.tasks_per_node=1",
    ] {
        assert_ne!(read_set(GOOD, &[set]).recipe_hash(), base, "{set}");
    }
    for set in [
        "name=other",
        "data.root=/elsewhere",
        "data.metadata=b.npy",
        "data.workers=1",
        "data.max_bad=0.5",
        "train.print_freq=1",
        "train.checkpoint_every=5",
        "train.keep_last=9",
        "train.keep_best=9",
        "train.collective_timeout_minutes=1",
        "eval.eval_freq=0",
        "cluster.device=cpu",
        "cluster.cpus_per_task=1",
        "cluster.max_crashes=0",
        "cluster.partition=gpu",
        "cluster.time=1:00:00",
        "cluster.env={A: 1}",
        "cluster.setup=[module load cuda]",
        "cluster.successor=true",
        "augment.multicrop_resize=224",
        "train.precision=auto",
        "model.momentum_tau=0.99",
        // Written out, but as the default has it.
        "train.epochs=25",
        "optim.lr=3e-3",
        "text.truncate=true",
    ] {
        assert_eq!(read_set(GOOD, &[set]).recipe_hash(), base, "{set}");
    }
    let again = |more: &[&str]| {
        let all = ["train.checkpoint_grad=true"].iter().chain(more);
        read_set(GOOD, &all.copied().collect::<Vec<_>>()).recipe_hash()
    };
    for how in [
        "train.checkpoint_segments=3",
        "train.checkpoint_memory=2 GB",
    ] {
        assert_eq!(again(&[how]), again(&[]), "{how}");
    }
    let spread = |nodes: &str, tasks: &str| read_set(GOOD, &[nodes, tasks]).recipe_hash();
    assert_eq!(
        spread("cluster.nodes=2", "cluster.tasks_per_node=1"),
        spread("cluster.nodes=1", "cluster.tasks_per_node=2")
    );
    let other = "name: demo\ncommand: [python, a.py]\n";
    assert_ne!(
        read(other).recipe_hash(),
        read(&other.replace("a.py", "b.py")).recipe_hash()
    );
}

#[test]
fn every_number_has_a_range_and_every_range_a_number() {
    let mut json = serde_json::to_value(read_set(
        GOOD,
        &[
            "train.max_steps=1",
            "cluster.tasks_per_node=1",
            "augment.multicrop_resize=1",
            "cluster.hang_minutes=1",
            "data.read_timeout_seconds=1",
            "train.checkpoint_grad=true",
            "train.checkpoint_segments=1",
        ],
    ))
    .unwrap();
    json["model"]["vision"] = serde_json::to_value(VitDims::named("VITB16")).unwrap();
    let convnext = serde_json::to_value(ConvNextDims::named("CNEXTT")).unwrap();
    for key in ["depths", "widths"] {
        json["model"]["vision"][key] = convnext[key].clone();
    }
    let mut numbers = Vec::new();
    collect_numbers("", &json, &mut numbers);
    numbers.sort();
    let mut ranges: Vec<String> = ranged_keys().map(str::to_owned).collect();
    ranges.sort();
    assert_eq!(numbers, ranges);
}

fn collect_numbers(path: &str, value: &serde_json::Value, numbers: &mut Vec<String>) {
    match value {
        serde_json::Value::Number(_) => numbers.push(path.to_owned()),
        serde_json::Value::Array(items) if items.iter().any(serde_json::Value::is_number) => {
            numbers.push(path.to_owned())
        }
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect_numbers(&path, value, numbers);
            }
        }
        _ => {}
    }
}

/// Texts that YAML could take for something else.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9 _/.:#'\"$&*!|>%@`{}\\[\\],?~=-]{1,20}",
        prop::sample::select(vec![
            "yes",
            "no",
            "null",
            "~",
            "1e3",
            "0x10",
            ".inf",
            "true",
            "- a",
            "a: b",
            "  x ",
            "é\u{1F600}",
            "a\nb",
            "<<"
        ])
        .prop_map(str::to_owned),
    ]
    .prop_filter("paths are not empty", |text| !text.is_empty())
}

/// Those of them that name a set.
fn set_names() -> impl Strategy<Value = String> {
    texts().prop_filter("results are files of that name", |name| {
        set_name_problem(name).is_none()
    })
}

proptest! {
    #[test]
    fn every_experiment_survives_its_yaml(
        seed in any::<u64>(),
        root in texts(), metadata in texts(), datasets in prop::collection::btree_set(set_names(), 0..3),
        lr in 1e-300_f64..1e300, warmup in 0.0_f64..25.0, beta in 0.0_f64..1.0,
        epochs in 25_u64..1000, steps in prop::option::of(1_u64..), batch in 1_i64..,
        every in prop_oneof![(1_u64..).prop_map(Every::Steps), (1e-3_f64..1e9).prop_map(Every::Minutes)],
        named in any::<bool>(), flag in any::<bool>(), tasks in prop::option::of(1_u32..100),
    ) {
        let mut made = Experiment::named("a-1.b_c");
        made.seed = seed;
        made.model.base = Some(Base::Cl2l);
        made.model.child = Some(Child::Cl2l);
        let mut dims = VitDims::named("VITS32").unwrap();
        dims.image_size = 64;
        made.model.vision = Some(if named { Vision::Named("VITB16".into()) } else { Vision::Vit(dims) });
        made.data.root = root.into();
        made.data.metadata = metadata.into();
        made.eval.datasets = datasets.into_iter().collect();
        (made.optim.lr, made.optim.warmup_epochs, made.optim.betas[1]) = (lr, warmup, beta);
        (made.train.epochs, made.train.max_steps, made.train.batch_size) = (epochs, steps, batch);
        made.train.checkpoint_every = every;
        made.train.gather_with_grad = flag;
        made.cluster.tasks_per_node = tasks;
        let yaml = made.to_yaml();
        let read = Experiment::from_resolved(&yaml).map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}")))?;
        prop_assert_eq!(&read, &made);
        prop_assert_eq!(read.to_yaml(), yaml);
        prop_assert_eq!(read.recipe_hash(), made.recipe_hash());
    }
}
