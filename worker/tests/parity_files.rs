//! The recorded files that need no training step, through the command: each passes with its worst deviation
//! printed, and fails when a value is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// Runs the command, and gives its exit code and output.
fn command(file: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .arg("parity")
        .arg(file)
        // The words that are recorded, for a machine without WordNet.
        .env("WNSEARCHDIR", golden("text/wordnet"))
        .output()
        .expect("rocket-worker starts");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// Changes a number by 1 % or at least by one, a text by a letter, and a list by its order.
fn disturb(value: &mut Value) {
    *value = match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::from(number + 1),
            (None, Some(number)) => Value::from(number * 1.01),
            _ => panic!("a number of another kind"),
        },
        Value::String(text) => Value::from(format!("{text}x")),
        Value::Array(list) if list.is_empty() => Value::from(vec!["x"]),
        Value::Array(list) => Value::from(list.iter().rev().cloned().collect::<Vec<_>>()),
        _ => panic!("{value} cannot be changed"),
    };
}

/// The file passes; with any of these values changed, its copy fails.
#[track_caller]
fn check(name: &str, pointers: &[&str]) {
    let file = golden(name);
    let (code, said) = command(&file);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("worst") || said.contains("all equal"),
        "{said}"
    );
    // Of JSON lines, each line is a value.
    let text = fs::read_to_string(&file).expect("reads");
    let lines = name.ends_with(".jsonl");
    let value: Value = if lines {
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .collect()
    } else {
        serde_json::from_str(&text).expect("JSON")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join(file.file_name().expect("a name"));
    let beside = file.with_extension("safetensors");
    if beside.is_file() {
        fs::copy(beside, copy.with_extension("safetensors")).expect("copies");
    }
    for pointer in pointers {
        let mut changed = value.clone();
        disturb(
            changed
                .pointer_mut(pointer)
                .unwrap_or_else(|| panic!("{pointer} is there")),
        );
        let text = match &changed {
            Value::Array(all) if lines => {
                let all: Vec<String> = all.iter().map(Value::to_string).collect();
                all.join("\n")
            }
            _ => changed.to_string(),
        };
        fs::write(&copy, text).expect("writes");
        let (code, said) = command(&copy);
        assert_eq!(code, Some(10), "{name} {pointer}: {said}");
        assert!(said.contains("FAILED"), "{said}");
    }
}

#[test]
fn losses_at_one_and_two_ranks() {
    check(
        "models/losses.json",
        &[
            "/world1/0/CLIP/loss/loss",
            "/world1/0/CL2L_avg_ls0/grads/h_image_local.1/5",
            "/world1/0/BARLIP/loss/barlip_loss",
            "/world2/1/CL2L_sum_ls0.1/loss/clip_loss_text_local",
            "/world2/0/CL2L_sum_ls0.1/grads/z_text_global/17",
            "/world2/1/BARLIP/grads/v_text_local.1/2",
            "/world2/0/SIAMLIP/grads/p_image/3",
            "/world2/1/SIAMLIP_momentum/loss/siamlip_loss",
            "/world2/0/SWALIP/loss/swalip_loss",
            "/world2/1/SWALIP/grads/h_image_local.0/40",
        ],
    );
}

#[test]
fn state_dicts() {
    check(
        "models/state_dicts_extra.json",
        &["/CL2L_VITS16MOCO_SIAMLIP/total_params"],
    );
}

#[test]
fn learning_rates() {
    check("lr_schedules/lr_schedules.json", &["/0/values/3"]);
}

#[test]
fn order_of_samples() {
    check(
        "sampler/distributed_sampler.json",
        &["/2/ranks/1/0", "/0/ranks/0"],
    );
}

#[test]
fn tokens() {
    check("text/tokenizer.jsonl", &["/3/ids/2", "/5/cleaned"]);
}

#[test]
fn stop_words() {
    check("text/text_stopwords.jsonl", &["/7/no_stopwords"]);
}

#[test]
fn stop_words_and_synonyms() {
    check(
        "text/text_synonyms.json",
        &["/stopwords/5", "/synonyms/dogs/4", "/synonyms/the"],
    );
}

#[test]
fn a_file_of_no_known_kind_is_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.json");
    fs::write(&path, "{}").expect("writes");
    let (code, said) = command(&path);
    assert_eq!(code, Some(10), "{said}");
}

#[test]
fn a_folder_stands_for_the_files_below_it() {
    let (code, said) = command(&golden("text"));
    assert_eq!(code, Some(0), "{said}");
    for name in ["tokenizer.jsonl", "text_synonyms.json"] {
        assert!(said.contains(name), "{said}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (code, _) = command(folder.path());
    assert_eq!(code, Some(2), "nothing is there to check");
}
