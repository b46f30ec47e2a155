//! `rocket submit --build`, and the check that makes it needed: binaries say what they were built from.
#![allow(missing_docs)]

mod support;

use std::path::Path;
use std::process::Command;

use rocket::bundle::Identity;
use support::Env;

/// A workspace with two programs of the right names, which say where they come from.
fn workspace(env: &Env) {
    env.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"orchestrator\", \"worker\"]\n",
    );
    let mut lock = "version = 4\n".to_owned();
    for (folder, name) in [("orchestrator", "rocket"), ("worker", "rocket-worker")] {
        env.write(
            &format!("{folder}/Cargo.toml"),
            &format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
        );
        env.write(
            &format!("{folder}/src/main.rs"),
            &format!("fn main() {{ println!(\"{name} of the commit\"); }}\n"),
        );
        lock.push_str(&format!(
            "\n[[package]]\nname = \"{name}\"\nversion = \"0.1.0\"\n"
        ));
    }
    env.write("Cargo.lock", &lock);
    env.write(".gitignore", "images\ntrain.npy\n");
    env.write("images/1.jpg", "");
    env.write("train.npy", "");
    env.write(
        "exp.yaml",
        "name: job\nmodel: {name: CL2L_R50_CL2L}\ndata: {root: images, metadata: train.npy}\ncluster: {backend: local, nodes: 1, tasks_per_node: 1}\n",
    );
    env.commit_but_not_experiment();
}

/// What cargo needs to know of the person who runs the tests.
fn with_cargo<'a>(env: &Env, command: &'a mut Command) -> &'a mut Command {
    let home = std::path::PathBuf::from(std::env::var_os("HOME").unwrap());
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let value = std::env::var_os(name).unwrap_or_else(|| home.join(folder).into());
        command.env(name, value);
    }
    command
        .env("CARGO", env!("CARGO"))
        .env("LIBTORCH", env.path("none"))
}

#[test]
fn the_commit_is_built_in_a_clean_checkout_and_bundled() {
    let env = Env::new();
    workspace(&env);
    let mut command = env.rocket_command();
    let output = with_cargo(&env, &mut command)
        .args(["submit", "exp.yaml", "--build"])
        .output()
        .unwrap();
    let said = env.said(output).ok();
    let run = said
        .stdout
        .lines()
        .next()
        .unwrap()
        .strip_prefix("run ")
        .unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&env.read_run(run, "run.json")).unwrap();
    let bin = Path::new(manifest["bundle"]["dir"].as_str().unwrap()).join("bin");
    for name in ["rocket", "rocket-worker"] {
        let output = Command::new(bin.join(name)).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("{name} of the commit\n")
        );
    }
    assert_eq!(env.git(&["status", "--porcelain"]), "?? exp.yaml\n");

    // A later commit is built in the same checkout.
    env.write(
        "worker/src/main.rs",
        "fn main() { println!(\"changed\") }\n",
    );
    env.commit_but_not_experiment();
    let mut command = env.rocket_command();
    let output = with_cargo(&env, &mut command)
        .args(["submit", "exp.yaml", "--build"])
        .output()
        .unwrap();
    let said = env.said(output).ok();
    let run = said
        .stdout
        .lines()
        .next()
        .unwrap()
        .strip_prefix("run ")
        .unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&env.read_run(run, "run.json")).unwrap();
    let bin = Path::new(manifest["bundle"]["dir"].as_str().unwrap()).join("bin");
    let output = Command::new(bin.join("rocket-worker")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "changed\n");
}

#[test]
fn a_commit_without_the_sources_cannot_be_built() {
    let env = Env::with_job("true", 1);
    let said = env.rocket(&["submit", "exp.yaml", "--build"]).fails();
    assert!(
        said.stderr.contains("does not hold the sources of rocket"),
        "{said}"
    );
    assert_eq!(env.git(&["for-each-ref", "refs/rocket"]), "");
}

#[test]
fn programs_of_other_sources_than_the_pinned_ones_are_refused() {
    let env = Env::with_job("true", 1);
    env.write(
        "common/src/lib.rs",
        "// not what this rocket was built from\n",
    );
    env.write("orchestrator/src/lib.rs", "");
    env.commit_but_not_experiment();
    let said = env.rocket(&["submit", "exp.yaml", "--dry-run"]);
    if !Identity::own().is_known() {
        // Built from no git checkout: said, and let pass.
        assert!(said.ok().stderr.contains("does not say which sources"));
        return;
    }
    let said = said.fails();
    assert!(
        said.stderr
            .contains("rocket was not built from the commit that would be pinned"),
        "{said}"
    );
    assert!(said.stderr.contains("common/src, "), "{said}");
    assert!(said.stderr.contains("rocket submit --build"), "{said}");
}

#[test]
fn the_version_names_the_sources() {
    let env = Env::new();
    let said = env.rocket(&["--version"]).ok();
    let own = Identity::own();
    assert_eq!(said.stdout.contains(" orchestrator/src\n"), own.is_known());
    let binary = Identity::of_binary(Path::new(env!("CARGO_BIN_EXE_rocket"))).unwrap();
    assert_eq!(
        binary, own,
        "read from the file and known to the program are the same"
    );
    assert_eq!(env.rocket(&["-V"]).ok().stdout.lines().count(), 1);
}
