//! `sweep:`: what is refused, at its place, and which points there are.

use rocket_common::experiment::{
    Diagnostic, Here, Reading, Settings, parse_any, parse_with, point_identity,
};

const BASE: &str = "\
name: demo
model:
  name: CL2L_R50_CL2L
data:
  root: images
  metadata: train.npy
";

const PROGRAM: &str = "name: demo\ncommand: [./job.sh]\n";

/// What is said about a file with a sweep, and which points it has.
fn told_with(base: &str, sweep: &str, overrides: &[&str]) -> String {
    let text = format!("{base}{sweep}");
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let (settings, here) = (Settings::default(), Here::default());
    let environment = |_: &str| None;
    let lines =
        |found: Vec<Diagnostic>| -> String { found.iter().map(|one| format!("{one}\n")).collect() };
    let read = parse_any(
        "exp.yaml",
        &text,
        &overrides,
        &environment,
        &settings,
        &here,
    );
    let sweep = match read {
        Err(found) => return lines(found),
        Ok(Reading::One(experiment, _)) => return format!("one experiment, {}\n", experiment.name),
        Ok(Reading::Many(sweep)) => sweep,
    };
    let mut said = format!(
        "{}: {} points ({}), {:?} at once\n",
        sweep.name(),
        sweep.count(),
        sweep.shape(),
        sweep.max_running()
    );
    for number in 0..sweep.count().min(8) {
        match sweep.point(number) {
            Ok(point) => {
                let set: Vec<String> = point
                    .set
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                said += &format!("{}: {}\n", point.experiment.name, set.join(" "));
            }
            Err(found) => said += &lines(found),
        }
    }
    said
}

fn told(sweep: &str) -> String {
    told_with(BASE, sweep, &[])
}

fn told_each(sweeps: &[&str]) -> String {
    let tell = |sweep: &&str| {
        let said = told(sweep);
        format!("{sweep}\n    {}", said.trim_end().replace('\n', "\n    "))
    };
    sweeps.iter().map(tell).collect::<Vec<_>>().join("\n")
}

#[test]
fn grids_and_lists_that_go_together() {
    insta::assert_snapshot!(told(
        "sweep:
  name: rates
  max_running: 4
  optim.lr: [1e-3, 3e-3]
  zip:
    train.batch_size: [32, 64]
    train.update_freq: [2, 1]
  train: {precision: [bf16, float32]}
"
    ));
}

#[test]
fn names_of_points_are_short_and_valid() {
    insta::assert_snapshot!([
        told_with(PROGRAM, "sweep: {command: [[./job.sh, a b], [bin/job.sh, c]]}", &[]),
        told_with(PROGRAM, "sweep: {cluster.env.LR: [1e-3, fast], cluster.env.DIR: [/a/b/, /c/d..]}", &[]),
        told("sweep: {train.batch_size: [8], eval.batch_size: [4, 16]}"),
        told("sweep: {model.name: [CL2L_R50_CL2L, CLIP_R50_CLIP], optim.betas: [[0.9, 0.98], [0.9, 0.999]]}"),
        told_with(PROGRAM, &format!("sweep: {{cluster.env.X: [{}, b]}}", "a".repeat(70)), &[]),
    ]
    .join("\n"));
}

#[test]
fn mistakes_are_said_at_their_place() {
    insta::assert_snapshot!(told_each(&[
        "sweep: 3",
        "sweep:",
        "sweep: {optim.lrr: [1, 2]}",
        "sweep: {lr: [1, 2]}",
        "sweep: {optim: [1, 2]}",
        "sweep: {max_runing: 4, seed: [0, 1]}",
        "sweep:\n  optim.lr:\n    - 1e-3\n    - fast\n    - 1e-4",
        "sweep: {optim.lr: 1e-3}",
        "sweep: {optim.lr: []}",
        "sweep: {seed: [0, 1, 0]}",
        "sweep: {zip: {optim.lr: [1e-3, 1e-4], seed: [0, 1, 2]}}",
        "sweep: {seed: [0, 1], zip: {optim.lr: [1e-3, 1e-4], seed: [0, 1]}}",
        "sweep: {optim.lr: [1e-3], optim: {lr: [1e-4]}}",
        "sweep: {zip: [0]}",
        "sweep: {name: [a, b]}",
        "sweep: {name: 'a b', seed: [0]}",
        "sweep: {track: [a]}",
        "sweep: {cluster.backend: [local, slurm]}",
        "sweep: {max_running: 0, seed: [0]}",
        "sweep: {max_running: [4], seed: [0]}",
        "sweep: {max_running: 4}",
        "sweep: {train.epochs: [5, 0]}",
        "sweep: {train.epochs: [5, 1], optim.warmup_epochs: [1, 2]}",
        "sweep: {zzz: [0]}",
        "train: {epocs: 3}\nsweep: {optim.lr: [1e-3, fast]}",
    ]));
}

#[test]
fn overrides_change_the_lists() {
    let sweep = "sweep: {seed: [0, 1], optim.lr: [1e-3]}";
    insta::assert_snapshot!(
        [
            told_with(BASE, sweep, &["sweep.seed=[5]"]),
            told_with(
                BASE,
                sweep,
                &[
                    "sweep.seed+=7",
                    "sweep.optim.lr+=[1e-4]",
                    "sweep.max_running=2"
                ]
            ),
            told_with(BASE, "", &["sweep.seed=[3, 4]"]),
            told_with(BASE, sweep, &["sweep={name: other, optim: {lr: [1e-5]}}"]),
            told_with(
                BASE,
                sweep,
                &[
                    "sweep.wd+=7",
                    "seed=3",
                    "sweep.seed+=fast",
                    "sweep.optim.lr+=1e-3"
                ]
            ),
        ]
        .join("\n")
    );
}

#[test]
fn a_hundred_thousand_points_are_counted_without_being_made() {
    let list = |count: usize| -> String {
        let all: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
        all.join(", ")
    };
    let text = format!(
        "{BASE}sweep: {{seed: [{}], train.epochs: [{}], train.batch_size: [{}]}}\n",
        list(100),
        list(100),
        list(10)
    );
    let (settings, here) = (Settings::default(), Here::default());
    let start = std::time::Instant::now();
    let Ok(Reading::Many(sweep)) = parse_any("exp.yaml", &text, &[], &|_| None, &settings, &here)
    else {
        panic!("no sweep");
    };
    assert_eq!(sweep.count(), 100_000);
    let last = sweep.point(99_999).unwrap();
    assert_eq!(last.experiment.train.batch_size, 10);
    assert_eq!(last.experiment.seed, 100);
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
}

#[test]
fn a_point_is_known_again_by_what_decides_numbers() {
    let experiment = |text: &str| parse_with("e", text, &[], &|_| None).unwrap();
    let one = experiment(BASE).recipe_hash();
    let other = experiment(&format!("{BASE}seed: 1\n")).recipe_hash();
    let identity = |hash: &str, set: &[(&str, &str)]| point_identity(hash, set.iter().copied());
    // The recipe says all of it, however it is written and named.
    assert_eq!(identity(&one, &[("optim.lr", "3e-3")]), identity(&one, &[]));
    assert_ne!(identity(&one, &[]), identity(&other, &[]));
    // What no recipe covers counts by itself.
    let env = |value| identity(&one, &[("cluster.env.LR", value)]);
    assert_eq!(env("1e-3"), env("0.001"));
    assert_ne!(env("1e-3"), env("1e-2"));
    assert_ne!(env("1e-3"), identity(&one, &[]));
}

#[test]
fn notifications_are_judged() {
    let told = |text: &str| match parse_with("exp.yaml", &format!("{BASE}{text}"), &[], &|_| None) {
        Ok(experiment) => {
            assert_eq!(
                experiment.recipe_hash(),
                parse_with("e", BASE, &[], &|_| None).unwrap().recipe_hash()
            );
            // A variable is stored by its name.
            let again = parse_with("e", &experiment.to_yaml(), &[], &|_| None).unwrap();
            assert_eq!(again.notify, experiment.notify);
            format!("{:?}\n", experiment.notify)
        }
        Err(found) => found.iter().map(|one| format!("{one}\n")).collect(),
    };
    let files = [
        "notify: {webhooks: [$HOOK, 'https://example.org/$TEAM/x'], events: [failed]}",
        "notify: {webhooks: ['https://example.org/x']}",
        "notify: {webhook: [x]}",
        "notify: {events: [finshed]}",
        "notify: {webhooks: [example.org]}",
        "notify: {webhooks: ['https://']}",
        "notify: {webhooks: ['https://a b']}",
        "notify: {webhooks: ['https://hooks.slack.com/services/T0/B0/x']}",
        "notify: {webhooks: ['https://me:secret@example.org/']}",
        "notify: {webhooks: ['${HOOK']}",
    ];
    let said: Vec<String> = files
        .iter()
        .map(|file| format!("{file}\n    {}", told(file)))
        .collect();
    insta::assert_snapshot!(said.join(""));
}
