//! `rocket drill`: an experiment is interrupted in every way, and its resumption certified.

use std::fs;

use serde_json::Value;
use support::slurm::Site;
use support::{Project, Text};

/// Names in the runs root that begin like this.
fn left(project: &Project, beginning: &str) -> Vec<String> {
    fs::read_dir(project.path().join("runs"))
        .expect("the runs root")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(beginning))
        .collect()
}

#[test]
fn a_drill_certifies_step_exact_resume() {
    let project = Project::new(1000);
    let output = project.rocket(&[
        "drill",
        "exp.yaml",
        "--json",
        "--steps",
        "120",
        "--set",
        "text.text_augment=true",
        "--set",
        "text.synonym_replacement_prob=0",
        "--set",
        "text.text_dropout_prob=0.1",
    ]);
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", output.out(), output.err()));
    assert!(output.status.success(), "{said:#}\n{}", output.err());
    assert_eq!(said["certified"], true);
    let trials = said["trials"].as_array().expect("trials");
    let faults: Vec<&str> = trials
        .iter()
        .map(|trial| trial["fault"].as_str().expect("a fault"))
        .collect();
    assert_eq!(
        faults,
        ["stop_signal", "kill_in_save", "time_limit", "requeue"]
    );
    for trial in trials {
        assert_eq!(trial["identical"], true, "{trial:#}");
        assert!(trial["resumed_from"].as_u64() > Some(0), "{trial:#}");
        assert!(trial["seconds_lost"].as_f64() > Some(0.0), "{trial:#}");
    }
    // What is asked to stop saves first, and what is killed repeats what it had not saved.
    let repeated = |index: usize| trials[index]["repeated"].as_u64().expect("steps");
    assert_eq!((repeated(0), repeated(2)), (0, 0), "{said:#}");
    assert!(repeated(1) > 0, "{said:#}");
    let hit = trials[1]["hit"].as_str().expect("words");
    assert!(hit.starts_with("save of step"), "{hit}");
    let shrunk = said["shrunk"].as_array().expect("changes");
    assert!(
        shrunk
            .iter()
            .any(|change| change["key"] == "train.max_steps")
    );

    // Nothing is left of it, neither in the runs root nor in the repository.
    assert_eq!(left(&project, ".drill"), Vec::<String>::new());
    assert_eq!(project.git(&["for-each-ref", "refs/rocket"]), "");
}

#[test]
fn a_drill_of_another_program_is_refused() {
    let project = Project::new(10);
    project.write("other.yaml", "name: other\ncommand: [sleep, '1']\n");
    let output = project.rocket(&["drill", "other.yaml"]);
    assert!(!output.status.success());
    assert!(output.err().contains("'command:'"), "{}", output.err());
}

#[test]
fn a_drill_that_cannot_start_says_why_and_leaves_nothing() {
    let project = Project::new(10);
    let output = project.rocket(&["drill", "exp.yaml", "--set", "data.root=data/nowhere"]);
    assert!(!output.status.success());
    assert!(output.err().contains("data/nowhere"), "{}", output.err());
    assert_eq!(left(&project, ".drill"), Vec::<String>::new());
}

#[test]
fn a_drill_by_slurm_certifies_as_well() {
    let Some(site) = Site::new(1000, &[("CLUSTER_KILL_WAIT", "5")]) else {
        return;
    };
    let mut command = site.project().command("rocket");
    command.args(["drill", "exp.yaml", "--backend", "slurm", "--steps", "100"]);
    let output = command.output().expect("rocket starts");
    let text = format!("{}{}", output.out(), output.err());
    assert!(
        output.status.success(),
        "{text}\n{}",
        site.cluster().report()
    );
    let last = output.out();
    let last = last.lines().last().expect("a verdict").to_owned();
    assert_eq!(
        last, "drill: step-exact resume certified (4 of 4)",
        "{text}"
    );
    assert!(output.out().contains("scontrol requeue"), "{text}");
    assert_eq!(left(site.project(), ".drill"), Vec::<String>::new());
    // No job of it is left either.
    for (id, job) in site.cluster().jobs() {
        assert!(
            ["COMPLETED", "CANCELLED", "FAILED"].contains(&job["JobState"].as_str())
                || job["JobState"] == "COMPLETING",
            "job {id}: {job:#?}"
        );
    }
}
