//! Evaluating after training: by `rocket eval`, and by itself where `eval.after` says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Project, Text};

const STEPS: u64 = 10;

/// Folders of the evaluations of all runs, in order.
fn evaluations(project: &Project) -> Vec<PathBuf> {
    let runs = fs::read_dir(project.path().join("runs")).expect("the folder of runs");
    let mut found: Vec<PathBuf> = runs
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| name(path).starts_with("eval-"))
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn read(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

/// A second set with the images of the first, and one that is not there.
fn project() -> Project {
    let project = Project::new(STEPS);
    let folder = project.path().join("data/shapes");
    let entry = json!({"path": folder, "type": "imagefolder", "test": "test"});
    let absent = json!({"path": "/nowhere/at/all", "type": "imagefolder", "test": "test"});
    let catalog = json!({"shapes": entry, "figures": entry, "absent": absent});
    project.write("dataset_catalog.json", &format!("{catalog:#}\n"));
    for file in ["labels.json", "templates.json"] {
        let mut value = read(&project.path().join(file));
        for set in ["figures", "absent"] {
            value[set] = value["shapes"].clone();
        }
        project.write(file, &format!("{value:#}\n"));
    }
    project.commit("Two sets");
    project
}

#[test]
fn a_run_is_evaluated_on_request_by_its_own_programs_and_once() {
    let project = project();
    let run = project.submit(&["eval.datasets=[]"]);
    let folder = project.finished(&run);
    let eval = |args: &[&str]| project.rocket(&[&["eval", &run], args].concat());

    let unknown = eval(&["--datasets", "shape,absent"]).err();
    assert!(
        unknown.contains("no set 'shape' (did you mean 'shapes'?)"),
        "{unknown}"
    );
    let unknown = eval(&["--checkpoint", "7"]).err();
    assert!(
        unknown.contains("no checkpoint of step 7") && unknown.contains("steps 10"),
        "{unknown}"
    );
    let unknown = eval(&["--set", "optim.lr=1"]).err();
    assert!(
        unknown.contains("an evaluation keeps the experiment of its run"),
        "{unknown}"
    );

    let said = eval(&["--dry-run"]).ok();
    assert!(
        said.contains("step-00000010") && evaluations(&project).is_empty(),
        "{said}"
    );
    let output = eval(&["--datasets", "shapes", "--follow"]);
    let said = output.ok();
    assert!(said.contains("head") && said.contains("average"), "{said}");
    let result = read(&folder.join(format!("eval/shapes-step-{STEPS}.json")));
    assert_eq!(
        (&result["samples"], &result["classes"]),
        (&json!(16), &json!(16))
    );

    // All that are there, less what has a result.
    let output = eval(&["--follow"]);
    let said = output.ok();
    assert!(
        output
            .err()
            .contains("scored already, and not again without --again: shapes")
    );
    assert!(
        said.contains("figures") && said.contains("shapes"),
        "{said}"
    );
    assert_eq!(evaluations(&project).len(), 2);
    let figures = read(&folder.join(format!("eval/figures-step-{STEPS}.json")));
    assert_eq!(figures["heads"], result["heads"]);

    // What is asked for again is there; what was not there is still not.
    let output = eval(&["--datasets", "shapes,figures"]);
    assert!(output.ok().contains("average"), "{}", output.err());
    assert_eq!(evaluations(&project).len(), 2, "nothing was started");
    let failed = eval(&["--datasets", "absent", "--follow"]);
    assert!(!failed.status.success());
    assert!(
        failed.err().contains("entry 'absent': there is no folder"),
        "{}",
        failed.err()
    );

    // By the run's commit and programs, with a checkpoint that is gone from its own folder by now.
    let evaluation = read(&evaluations(&project)[0].join("run.json"));
    let manifest = read(&folder.join("run.json"));
    for key in ["commit", "bundle", "backend", "repo"] {
        assert_eq!(evaluation[key], manifest[key], "{key}");
    }
    assert!(!evaluations(&project)[0].join("checkpoints").exists());
    let status = project.status(&run);
    assert_eq!(status["main_score"], "shapes/z_top1", "{status:#}");
    let shown = project.rocket(&["show", &run]).ok();
    assert!(
        shown.contains("\nscores\n  step 10: 2 sets, percent\n"),
        "{shown}"
    );
    let page = project.path().join("report.html");
    project
        .rocket(&["report", &run, "--output", &page.to_string_lossy()])
        .ok();
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains("<th scope=\"col\" class=\"number\">average</th>"));
}

#[test]
fn evaluations_that_are_asked_for_at_once_are_apart() {
    let project = project();
    let run = project.submit(&["eval.datasets=[]"]);
    let folder = project.finished(&run);
    let rocket = support::binaries().join("rocket");
    let asked = ["shapes", "figures", "shapes", "figures"];
    let children: Vec<_> = asked
        .iter()
        .map(|set| {
            let mut command = project.command(&rocket.to_string_lossy());
            command.args(["eval", &run, "--again", "--datasets", set]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("rocket starts")
        })
        .collect();
    for child in children {
        child.wait_with_output().expect("an end").ok();
    }
    let mut scored: Vec<String> = evaluations(&project)
        .iter()
        .map(|evaluation| {
            project.finished(&name(evaluation));
            let sets = &read(&evaluation.join("run.json"))["evaluation"]["datasets"];
            sets[0].as_str().expect("a name").to_owned()
        })
        .collect();
    scored.sort();
    assert_eq!(scored, ["figures", "figures", "shapes", "shapes"]);
    for set in ["shapes", "figures"] {
        assert!(
            folder
                .join(format!("eval/{set}-step-{STEPS}.json"))
                .is_file()
        );
    }
}

#[test]
fn what_a_killed_evaluation_has_left_is_scored_by_the_next() {
    let project = project();
    let run = project.submit(&["eval.datasets=[]"]);
    let folder = project.finished(&run);
    let result = folder.join(format!("eval/shapes-step-{STEPS}.json"));
    let eval = || project.rocket(&["eval", &run, "--datasets", "shapes", "--follow"]);
    eval().ok();
    // As if its supervisor had been killed: it has said that it began, and nothing since.
    let killed = &evaluations(&project)[0];
    fs::remove_file(killed.join("DONE")).expect("removed");
    fs::remove_file(killed.join(format!("eval/shapes-step-{STEPS}.json"))).expect("removed");
    fs::remove_file(&result).expect("removed");
    for entry in fs::read_dir(killed.join("events")).expect("events") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("text");
        let begun = |line: &&str| {
            line.contains(r#""event":"submitted""#) || line.contains(r#""event":"attempt_started""#)
        };
        let kept: String = text
            .lines()
            .filter(begun)
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(&path, kept).expect("written");
    }
    assert_eq!(project.status(&name(killed))["status"], "lost");
    eval().ok();
    assert!(result.is_file());
    assert_eq!(evaluations(&project).len(), 2);
}

#[test]
fn what_is_evaluated_after_training_is_submitted_once() {
    let project = project();
    let run = project.submit(&["eval.datasets=[]", "eval.after=all"]);
    let folder = project.finished(&run);
    let made = evaluations(&project);
    let [first] = &made[..] else {
        panic!("one evaluation, not {made:?}");
    };
    project.finished(&name(first));
    for set in ["shapes", "figures"] {
        assert!(
            folder
                .join(format!("eval/{set}-step-{STEPS}.json"))
                .is_file()
        );
    }
    let shown = project.rocket(&["show", &name(first)]).ok();
    assert!(
        shown.contains("left out, since they are not there: absent"),
        "{shown}"
    );

    // A supervisor that is started again, as Slurm does with one that died at the very end.
    let again = || {
        let rocket = support::binaries().join("rocket");
        let mut command = project.command(&rocket.to_string_lossy());
        command.arg("supervise").arg(&folder);
        command.output().expect("rocket starts").ok();
        evaluations(&project)
    };
    assert_eq!(again(), made);
    // It had claimed the id, and died before anything else.
    fs::remove_dir_all(first).expect("removed");
    fs::remove_file(folder.join(format!("eval/figures-step-{STEPS}.json"))).expect("removed");
    assert_eq!(again(), made);
    project.finished(&name(first));
    let manifest = read(&first.join("run.json"));
    assert_eq!(
        manifest["evaluation"]["datasets"],
        json!(["figures", "absent"])
    );
    assert!(
        folder
            .join(format!("eval/figures-step-{STEPS}.json"))
            .is_file()
    );
    assert_eq!(again(), made);
}
