//! What README.md says works: its commands are run, its experiment is read, its targets and links exist.

use std::fs;
use std::path::Path;

use support::{Project, Text};

fn readme() -> String {
    fs::read_to_string(support::root().join("README.md")).expect("README.md is there")
}

/// Contents of the fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let open = format!("```{language}\n");
    text.split(&open)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn every_command_works() {
    let text = readme();
    let commands: Vec<String> = blocks(&text, "console")
        .iter()
        .flat_map(|block| block.lines())
        .map(|line| {
            line.strip_prefix("$ ")
                .expect("a line of a console block is a command")
                .to_owned()
        })
        .collect();
    for needed in [
        "submit",
        "status",
        "logs",
        "preempt",
        "cancel",
        "resume",
        "heal",
        "doctor",
        "drill",
        "show",
        "plot",
        "sweep",
        "import",
        "report",
        "compare",
        "reproduce",
        "export",
        "import-run",
        "gc",
        "eval",
    ] {
        let needed = format!("rocket {needed} ");
        assert!(
            commands
                .iter()
                .any(|command| format!("{command} ").contains(&needed)),
            "no '{needed}'"
        );
    }

    for needed in [
        "convert",
        "data prepare",
        "data check",
        "eval",
        "retrieval",
        "probe",
    ] {
        let needed = format!("rocket-worker {needed} ");
        assert!(
            commands.iter().any(|command| command.contains(&needed)),
            "no '{needed}'"
        );
    }

    let project = Project::new(400);
    for command in &commands {
        let output = project
            .command("bash")
            .args(["-e", "-u", "-o", "pipefail", "-c", command])
            .output()
            .expect("bash starts");
        assert!(
            output.status.success(),
            "'{command}' of README.md failed ({})\nstdout:\n{}\nstderr:\n{}",
            output.status,
            output.out(),
            output.err()
        );
        assert!(
            !output.out().is_empty() || command.starts_with("rocket logs"),
            "'{command}' says nothing"
        );
        if command == "rocket submit exp.yaml" {
            project.wait_for("first", "first step", |status| {
                status["step"].as_u64() > Some(0)
            });
        }
    }
    for drawn in ["curves.png", "sheet.png"] {
        let picture = fs::read(project.path().join(drawn));
        assert!(
            picture.is_ok_and(|picture| picture.starts_with(b"\x89PNG")),
            "{drawn} is not drawn"
        );
    }
}

#[test]
fn the_experiment_is_valid() {
    let project = Project::new(1);
    let blocks = blocks(&readme(), "yaml");
    let block = |key: &str| {
        let found = blocks.iter().find(|block| block.starts_with(key));
        found.unwrap_or_else(|| panic!("no block starts with '{key}'"))
    };
    project.write("readme.yaml", block("name:"));
    // The settings are read with it.
    project.write("settings/rocket/config.yaml", block("runs:"));
    // Its data is not here; everything else is as it is written.
    let sets = ["data.root=data/train", "data.metadata=data/train.npy"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let args: Vec<&str> = ["submit", "readme.yaml", "--dry-run"]
        .into_iter()
        .chain(sets)
        .collect();
    let plan = project
        .command("rocket")
        .args(&args)
        .args(["--set", "cluster.profile=institute"])
        .env("XDG_CONFIG_HOME", project.path().join("settings"))
        .env("ROCKET_RUNS", project.path().join("runs"))
        .output()
        .expect("rocket starts")
        .ok();
    assert!(plan.contains("cl2l-r50-cc3m-"), "{plan}");
    assert!(plan.contains("account: vision"), "{plan}");
}

#[test]
fn targets_and_links_exist() {
    let text = readme();
    let makefile = fs::read_to_string(support::root().join("Makefile")).expect("Makefile is there");
    let targets: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("    make "))
        .collect();
    assert!(targets.len() >= 2, "README.md names the two commands");
    for target in targets {
        assert!(
            makefile.contains(&format!("\n{target}: ")),
            "there is no target '{target}'"
        );
    }
    let links = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let files: Vec<&str> = links.filter(|link| !link.contains("://")).collect();
    assert!(files.len() >= 5, "README.md links to the documents");
    for file in files {
        assert!(
            Path::new(&support::root()).join(file).exists(),
            "README.md links to {file}, which is not there"
        );
    }
}
