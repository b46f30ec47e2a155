//! Models, losses and state dicts against recorded numbers, and that a wrong number is found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rocket_worker::parity::models::Runs;
use rocket_worker::parity::{self, Group, Source};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/models")
        .join(name)
}

/// Runs the command, and gives its exit code and output.
fn command(files: &[PathBuf]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .arg("parity")
        .args(files)
        .output()
        .expect("rocket-worker starts");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[track_caller]
fn passes(name: &str) {
    let (code, said) = command(&[golden(name)]);
    assert_eq!(code, Some(0), "{said}");
    // Every group says how far off it was; where nothing may be off, that all is equal.
    assert!(
        said.contains("worst") || said.contains("all equal"),
        "{said}"
    );
}

#[test]
fn clip_r50() {
    passes("CLIP_R50_CLIP.hash.json");
}

#[test]
fn cl2l_r50() {
    passes("CL2L_R50_CL2L.hash.json");
}

#[test]
fn cl2l_r50_separate() {
    passes("CL2L_R50_CL2L_sep.hash.json");
}

#[test]
fn cl2l_vitb16_separate() {
    passes("CL2L_VITB16_CL2L_sep.hash.json");
}

#[test]
fn losses_at_one_and_two_ranks() {
    passes("losses.json");
}

#[test]
fn state_dicts() {
    passes("state_dicts_extra.json");
}

/// Multiplies the number at a JSON pointer by 1.01.
fn disturb(value: &mut Value, pointer: &str) {
    let number = value
        .pointer_mut(pointer)
        .unwrap_or_else(|| panic!("{pointer} is there"));
    let changed = number.as_f64().expect("a number") * 1.01;
    *number = Value::from(changed);
}

fn passed(groups: &[Group]) -> bool {
    groups.iter().all(|group| group.report.passed())
}

/// The cheapest shipped model: it passes, and any one value changed by 1 % is found.
#[test]
fn cl2l_vits16moco_separate_and_a_changed_value_is_found() {
    tch::set_num_threads(2);
    let source = Source::read(&golden("CL2L_VITS16MOCO_CL2L_sep.hash.json")).expect("reads");
    let runs = Runs::of(&source).expect("runs");
    let groups = runs.compare(&source).expect("compares");
    for group in &groups {
        let worst = group.report.worst();
        assert!(group.report.passed(), "{}: {worst:?}", group.name);
    }
    let pointers = [
        "/loss_step1/loss",
        "/loss_step1/clip_loss_text_local",
        "/loss_step1/clip_acc",
        "/loss_step2/loss",
        "/loss_step1_f64/clip_loss_image_global",
        "/loss_step2_f64/loss",
        "/outputs/feats_image/l2",
        "/outputs/h_image_local.1/l2",
        "/params/visual.pos_embed/grad_l2",
        "/params/visual.blocks.3.attn.qkv.weight/grad_l2_f64",
        "/params/visual.blocks.0.mlp.fc1.weight/grad_first8/1",
        "/params/l2l_text_projector.layer2.weight/step1_l2",
        "/params/visual.blocks.7.mlp.fc2.weight/step1_first8/2",
        "/buffers_after_step1/l2l_image_projector.bn1.running_var/l2",
        "/buffers_after_step1/l2l_image_projector.bn1.running_mean/first8/3",
    ];
    for pointer in pointers {
        let mut changed = Source {
            path: source.path.clone(),
            value: source.value.clone(),
        };
        disturb(&mut changed.value, pointer);
        let groups = runs.compare(&changed).expect("compares");
        assert!(!passed(&groups), "{pointer} changed by 1 % was not found");
    }
    let mut changed = Source {
        path: source.path.clone(),
        value: source.value.clone(),
    };
    changed.value["state_dict"][7][0] = Value::from("visual.blocks.0.norm9.weight");
    assert!(!passed(&runs.compare(&changed).expect("compares")));
}

#[test]
fn a_changed_file_is_a_failing_exit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("losses.json");
    for pointer in [
        "/world1/0/CLIP/loss/loss",
        "/world1/0/CL2L_avg_ls0/grads/h_image_local.1/5",
        "/world2/1/CL2L_sum_ls0.1/loss/clip_loss_text_local",
        "/world2/0/CL2L_sum_ls0.1/grads/z_text_global/17",
    ] {
        let text = fs::read_to_string(golden("losses.json")).expect("reads");
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        disturb(&mut value, pointer);
        fs::write(&path, value.to_string()).expect("writes");
        let (code, said) = command(std::slice::from_ref(&path));
        assert_eq!(code, Some(10), "{pointer}: {said}");
        assert!(said.contains("FAILED"), "{said}");
    }
}

#[test]
fn what_this_version_lacks_is_an_error_and_not_a_pass() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.hash.json");
    for (model, argv, says) in [
        ("CL2L_R50_BARLIP", "[]", "BARLIP"),
        ("CL2L_CNEXTT_CL2L", "[]", "CNEXTT"),
        ("CL2L_R50_CL2L", r#"["--detach-proj"]"#, "--detach-proj"),
    ] {
        for end in ["json", "safetensors"] {
            let from = golden(&format!("CLIP_R50_CLIP.hash.{end}"));
            fs::copy(from, path.with_extension(end)).expect("copies");
        }
        let mut value: Value =
            serde_json::from_str(&fs::read_to_string(&path).expect("reads")).expect("JSON");
        value["model"] = Value::from(model);
        value["argv"] = serde_json::from_str(argv).expect("JSON");
        fs::write(&path, value.to_string()).expect("writes");
        let error = parity::check(&path).expect_err("not a pass");
        assert!(
            error.contains(says) && error.contains("not in this version"),
            "{error}"
        );
    }
    fs::write(&path, "{}").expect("writes");
    let (code, said) = command(&[path]);
    assert_eq!(code, Some(10), "{said}");
}
