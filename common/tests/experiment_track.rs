//! `track`: short forms, what cannot be said, and that it changes no recipe.

use rocket_common::experiment::*;

const GOOD: &str =
    "name: demo\nmodel: {name: CL2L_R50_CL2L}\ndata: {root: images, metadata: train.npy}\n";

fn parse_track(track: &str) -> Result<Experiment, Vec<Diagnostic>> {
    let environment = |name: &str| {
        (name == "MLFLOW_TRACKING_URI").then(|| "https://tracking.example.org".to_owned())
    };
    parse_with(
        "exp.yaml",
        &format!("{GOOD}track: {track}\n"),
        &[],
        &environment,
    )
}

fn read(track: &str) -> Track {
    parse_track(track)
        .unwrap_or_else(|found| panic!("{found:?}"))
        .track
}

#[test]
fn short_forms_are_every_default() {
    assert_eq!(read(""), Track::default());
    assert!(!read("{wandb: false, mlflow: false, tensorboard: false}").is_any());
    assert!(!read("{wandb: }").is_any());
    assert_eq!(read("{wandb: true}"), read("{wandb: {}}"));
    assert_eq!(read("{wandb: true}").wandb, Some(Wandb::default()));
    assert_eq!(
        read("{mlflow: 'http://host:5000'}").mlflow,
        read("{mlflow: {uri: 'http://host:5000', experiment: rocket}}").mlflow
    );
    let server = read("{mlflow: true}").mlflow.and_then(|mlflow| mlflow.uri);
    assert_eq!(server.as_deref(), Some("https://tracking.example.org"));
}

#[test]
fn what_is_chosen_is_resolved_and_is_no_part_of_the_recipe() {
    let plain = parse_track("").expect("good");
    assert!(!plain.to_yaml().contains("track"));
    let track = "{tensorboard: true, mlflow: true, wandb: {project: pets, group: g, tags: [a, b], mode: offline}}";
    let tracked = parse_track(track).expect("good");
    assert_eq!(tracked.recipe_hash(), plain.recipe_hash());
    let yaml = tracked.to_yaml();
    assert_eq!(Experiment::from_resolved(&yaml).expect("good"), tracked);
    let (_, section) = yaml.split_once("\ntrack:").expect("a section");
    insta::assert_snapshot!(format!("track:{section}"));
}

#[test]
fn what_cannot_be_said() {
    let long = "x".repeat(129);
    let tracks = [
        "true",
        "{wandb: yes}",
        "{wandb: offline}",
        "{wandb: 3}",
        "{wandb: {projct: a}}",
        "{wandb: {tags: a}}",
        "{wandb: {tags: [a, a]}}",
        "{wandb: {tags: ['']}}",
        "{wandb: {project: a/b}}",
        &format!("{{wandb: {{group: {long}}}}}"),
        "{wandb: {entity: ''}}",
        "{wandb: {mode: online}}",
        "{tensorbord: true}",
        "{tensorboard: {}}",
        "{mlflow: 'sqlite:///runs.db'}",
        "{mlflow: 'https://me:secret@host'}",
        "{mlflow: {uri: 'http://', experiment: ''}}",
        "{mlflow: {uri: 'http://host?token=1'}}",
        "{mlflow: {url: 'http://host'}}",
    ];
    let mut told = String::new();
    for track in tracks {
        let shown = track.replace(&long, "xxx...");
        told.push_str(&format!("track: {shown}\n"));
        for diagnostic in parse_track(track).expect_err(track) {
            let line = diagnostic.to_string();
            assert!(!line.contains("secret"), "{line}");
            told.push_str(&format!("    {line}\n"));
        }
    }
    let nowhere = format!("{GOOD}track: {{mlflow: true}}\n");
    for (text, what) in [
        (nowhere.as_str(), "MLFLOW_TRACKING_URI is not set"),
        (
            "name: other\ncommand: [python]\ntrack: {tensorboard: true}\n",
            "command",
        ),
    ] {
        told.push_str(&format!("{what}\n"));
        let found = parse_with("exp.yaml", text, &[], &|_| None).expect_err(what);
        for diagnostic in found {
            told.push_str(&format!("    {diagnostic}\n"));
        }
    }
    insta::assert_snapshot!(told);
}
