//! `rocket completions`: real shells take the script, and runs are completed by id and name.
#![allow(missing_docs)]

mod support;

use std::fs;

use support::Env;

fn completed(env: &Env, words: &[&str]) -> Vec<String> {
    let output = env
        .rocket_command()
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_IFS", "\n")
        // No scheduler could be asked: nothing but the shell's own is on the path.
        .env("PATH", "")
        .arg("--")
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn runs_sweeps_experiments_and_commands_are_completed() {
    let env = Env::new();
    let runs = env.repo().join("runs");
    for id in ["alpha-01234567", "beta-01234567", "beta-89abcdef", "notes"] {
        fs::create_dir_all(runs.join(id)).unwrap();
    }
    fs::create_dir_all(runs.join("sweeps/rates")).unwrap();
    fs::write(runs.join("sweeps/rates.json"), "{}").unwrap();
    env.write("jobs/demo.yaml", "");
    env.write("exp.yaml", "");
    env.write("exp.txt", "");
    assert_eq!(
        completed(&env, &["rocket", "logs", "al"]),
        ["alpha-01234567", "alpha"]
    );
    // A name with two runs names none.
    assert_eq!(
        completed(&env, &["rocket", "status", "be"]),
        ["beta-01234567", "beta-89abcdef"]
    );
    assert_eq!(
        completed(&env, &["rocket", "sweep", "cancel", "r"]),
        ["rates"]
    );
    assert_eq!(completed(&env, &["rocket", "submit", "ex"]), ["exp.yaml"]);
    assert_eq!(
        completed(&env, &["rocket", "submit", "jobs/"]),
        ["jobs/demo.yaml"]
    );
    assert_eq!(completed(&env, &["rocket", "compl"]), ["completions"]);
    assert!(completed(&env, &["rocket", "submit", "--dry"]).contains(&"--dry-run".to_owned()));
}

#[test]
fn shells_take_the_script() {
    let env = Env::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = env.rocket(&["completions", shell]).ok().stdout;
        assert!(script.contains("COMPLETE="), "{script}");
        env.write("script", &script);
        let Ok(output) = env
            .command(shell.as_ref(), &env.repo())
            .args(["-n", "script"])
            .output()
        else {
            eprintln!("no {shell} here to try it in");
            continue;
        };
        assert!(output.status.success(), "{shell}: {output:?}");
    }
    let said = env.rocket(&["completions", "csh"]);
    assert_eq!(said.code, Some(2), "{said}");
}
