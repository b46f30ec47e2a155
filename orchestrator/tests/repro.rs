//! `rocket repro` and `rocket import`.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use rocket_common::experiment::Experiment;
use serde_json::Value;
use support::Env;

/// A list in the original's form, with what people do to such lists.
const LIST: &str = r#"# runs of ours

## small

### first set
bash run.sh run_with_submitit.py --model CL2L_R50_CL2L --wandb --dataset cc3m --name one --root "/path/to/cc 3m" --metadata /path/to/cc3m.npy --epochs 32 --nodes 4 --separate-proj
--epochs 1,2 --seed 0,7

# a remark has no effect on what is below, but it ends the command above
python main.py --batch-size=32 --mod CL2L_VITB16_BARLIP \
    --name two -j4 --betas 0.9 0.95 --lr 1e-3 --lr 2e-3  # behind a command too

## other
run_with_submitit.py --name three --model CLIP_R50_CLIP --label-smoothing 0.1 --loss-avg-or-sum sum --ssl-temp 0.3 --offline --timeout 600
"#;

fn env() -> Env {
    let env = Env::with_job("true", 1);
    env.write("list.txt", LIST);
    env
}

macro_rules! assert_plain {
    ($said:expr) => {
        insta::with_settings!({filters => vec![
            (r"-[0-9a-f]{8}\b", "-[ID]"),
        ]}, { insta::assert_snapshot!($said.to_string()) });
    };
}

#[test]
fn a_list_becomes_experiments() {
    let env = env();
    assert_plain!(env.rocket(&["repro", "list.txt", "--list"]).ok());
    let said = env
        .rocket(&["repro", "list.txt", "--only", "thr*", "--json"])
        .ok();
    assert_plain!(said);
}

#[test]
fn experiments_are_written_as_people_would_write_them() {
    let env = env();
    let write = ["repro", "list.txt", "--write", "out", "--map"];
    let map = ["/path/to=/data", "--set", "train.print_freq=5"];
    let said = env.rocket(&[&write[..], &map[..]].concat()).ok();
    assert_plain!(said);
    let read = |name: &str| fs::read_to_string(env.repo().join("out").join(name)).unwrap();
    assert_plain!(read("one-epochs_2-seed_7.yaml"));
    assert_plain!(read("two.yaml"));
    // The same again is no harm; what somebody changed is not lost.
    env.rocket(&[&write[..], &map[..]].concat()).ok();
    env.write("out/two.yaml", "name: mine\n");
    let said = env.rocket(&[&write[..], &map[..]].concat()).fails();
    assert_plain!(said);
}

#[test]
fn one_command_is_imported() {
    let env = env();
    let words = [
        "import",
        "--",
        "python",
        "main.py",
        "--model",
        "CL2L_R50_SIAMLIP",
        "--momentum",
    ];
    assert_plain!(env.rocket(&words).ok());
    let text = "bash run.sh run_with_submitit.py --model CL2L_R50_CL2L --name 'a";
    assert_plain!(env.rocket(&["import", text]).fails());
}

#[test]
fn every_mistake_names_its_line() {
    let env = env();
    env.write(
        "wrong.txt",
        "--seed 1,2\nmain.py --modle CL2L_R50_CL2L --name 'a b'\nmain.py --model CL2L_R50_CL2L --name \"open\nmain.py --text-d 0.1\nmain.py --model CL2L_R50_CL2L --epochs many --batch-size --name x\nmain.py --model CL2L_R50_CL2L --epochs many\n--seed 1,,2\nmain.py --model CL2L_R50_CL2X --momentum=1 stray\nother.py --model CL2L_R50_CL2L\nmain.py --semi-paired --evaluate --name y\n",
    );
    assert_plain!(env.rocket(&["repro", "wrong.txt"]).fails());
    env.write(
        "values.txt",
        "main.py --model CL2L_R50_CL2L --epochs many --start-epoch 3\nmain.py --model CL2L_R50_CL2X --name y\nmain.py --model CL2L_R50_CL2L --name 'a b'\nmain.py --model CL2L_R50_CL2L --name z --root a\nmain.py --model CL2L_R50_BARLIP --name z\n",
    );
    assert_plain!(env.rocket(&["repro", "values.txt"]).fails());
    assert_plain!(env.rocket(&["repro", "nowhere.txt"]).fails());
    assert_plain!(env.rocket(&["repro", "list.txt", "--only", "four"]).fails());
}

#[test]
fn line_ends_of_windows_and_a_byte_order_mark_change_nothing() {
    let env = env();
    let plain = env.rocket(&["repro", "list.txt", "--json"]).ok().stdout;
    env.write(
        "list.txt",
        &format!("\u{feff}{}", LIST.replace('\n', "\r\n")),
    );
    let other = env.rocket(&["repro", "list.txt", "--json"]).ok().stdout;
    assert_eq!(plain, other);
}

/// The files of jobs/ carry the commands that they come from; each gives the same experiment again.
#[test]
fn jobs_are_what_their_commands_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs");
    let env = env();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap();
        let Some(command) = text
            .lines()
            .find_map(|line| line.strip_prefix("# run_with_"))
        else {
            continue;
        };
        let command = format!("run_with_{command}");
        let said = env.rocket(&["import", &command]).ok();
        let read = |text: &str| {
            rocket_common::experiment::parse_with("job", text, &[], &|_| None).unwrap()
        };
        let (job, derived): (Experiment, Experiment) = (read(&text), read(&said.stdout));
        assert_eq!(job, derived, "{}", entry.path().display());
        assert_eq!(job.recipe_hash(), derived.recipe_hash());
        assert_eq!(
            entry.file_name().to_str().unwrap(),
            format!("{}.yaml", job.name)
        );
        count += 1;
    }
    assert_eq!(count, 33);
}

/// A run of a name with a score, as it would lie there.
fn finished(env: &Env, experiment: &str, score: Option<f64>) {
    let read =
        |text: &str| rocket_common::experiment::parse_with("job", text, &[], &|_| None).unwrap();
    let said = env.rocket(&["import", experiment]).ok();
    let experiment = read(&said.stdout);
    let id = format!("{}-00000000", experiment.name);
    let time = "2026-01-01T00:00:00Z";
    let manifest = serde_json::json!({
        "schema": 1, "run_id": id, "name": experiment.name, "commit": "0".repeat(40),
        "parent_commit": "0".repeat(40), "snapshot": false, "experiment_sha256": "",
        "recipe_hash": experiment.recipe_hash(), "created": time, "user": "somebody",
        "host": "here", "versions": {}, "backend": "local", "experiment_path": "/exp.yaml",
        "repo": "/", "bundle": {"dir": "/", "files": {}},
    });
    env.write(&format!("runs/{id}/run.json"), &manifest.to_string());
    env.write(&format!("runs/{id}/experiment.yaml"), &experiment.to_yaml());
    let event = |seq: u64, rest: Value| {
        let mut event = serde_json::json!({"time": time, "seq": seq});
        let fields = event.as_object_mut().unwrap();
        fields.extend(rest.as_object().unwrap().clone());
        event.to_string()
    };
    let mut lines = vec![event(
        0,
        serde_json::json!({"event": "submitted", "backend": "local"}),
    )];
    if let Some(score) = score {
        let metrics = serde_json::json!({"imagenet/z_top1": score});
        let kind = serde_json::json!({"event": "evaluated", "step": 5, "metrics": metrics});
        lines.push(event(1, kind));
        lines.push(event(
            2,
            serde_json::json!({"event": "finished", "step": 5}),
        ));
    }
    env.write(
        &format!("runs/{id}/events/submit.jsonl"),
        &(lines.join("\n") + "\n"),
    );
}

#[test]
fn results_are_compared_over_seeds() {
    let env = env();
    env.write(
        "seeds.txt",
        "main.py --model CL2L_R50_CL2L --name a\n--seed 0,1\nmain.py --model CL2L_R50_BARLIP --name b\nmain.py --model CL2L_R50_SIAMLIP --name c\nmain.py --model CL2L_R50_SWALIP --name d\n",
    );
    finished(
        &env,
        "main.py --model CL2L_R50_CL2L --name a-seed_0",
        Some(0.30),
    );
    finished(
        &env,
        "main.py --model CL2L_R50_CL2L --name a-seed_1 --seed 1",
        Some(0.32),
    );
    finished(&env, "main.py --model CL2L_R50_BARLIP --name b", Some(0.20));
    finished(
        &env,
        "main.py --model CL2L_R50_SIAMLIP --name c --epochs 3",
        Some(0.20),
    );
    env.write(
        "expected.csv",
        "name,metric,value,tolerance\na*,imagenet/z_top1,30.5 %,1%\nb,imagenet/z_top1,0.25,0.01\n",
    );
    let check = ["repro", "seeds.txt", "--check"];
    assert_plain!(env.rocket(&check).fails());
    let against = [&check[..], &["--against", "expected.csv"]].concat();
    assert_plain!(env.rocket(&against).fails());
    let markdown = [&against[..], &["--markdown", "--only", "a*"]].concat();
    assert_plain!(env.rocket(&markdown).ok());
    let json = [&against[..], &["--json", "--only", "b"]].concat();
    assert_plain!(env.rocket(&json).fails());
    let earlier = [&check[..], &["--only", "[ab]*", "--against-runs", "runs"]].concat();
    assert_plain!(env.rocket(&earlier).ok());
    env.write("expected.csv", "a,b\nx,imagenet/z_top1,many,0\n[,m,1,1\n");
    assert_plain!(env.rocket(&against).fails());
}

#[test]
fn the_program_takes_a_closed_pipe_in_good_part() {
    let env = env();
    let program = env!("CARGO_BIN_EXE_rocket");
    let list = env.repo().join("list.txt");
    let line = format!("{program} repro {} --json | head -n 1", list.display());
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(output.status.success());
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
