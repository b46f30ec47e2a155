//! Zero-shot evaluation against the recorded one, from weights and texts to predictions.

use std::fs;
use std::path::{Path, PathBuf};

use rocket_worker::parity::{self, Group};
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/zeroshot/zeroshot.hash.json")
}

fn failed(groups: &[Group]) -> Vec<&str> {
    let checks = groups.iter().flat_map(|group| &group.report.checks);
    checks
        .filter(|check| !check.passed())
        .map(|check| check.name.as_str())
        .collect()
}

/// One run of the model shows both: what was changed is found, and everything else is met.
#[test]
fn the_recorded_evaluation_is_met_and_every_changed_value_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let copy = dir.path().join("zeroshot.hash.json");
    fs::copy(
        golden().with_extension("safetensors"),
        copy.with_extension("safetensors"),
    )
    .expect("copied");
    let mut value: Value =
        serde_json::from_slice(&fs::read(golden()).expect("the golden")).expect("JSON");
    let data = &mut value["datasets"]["cifar10"];
    for place in ["/z_sim/1/3", "/h_sim/3/9", "/class_cos_z/2/5"] {
        let number = data.pointer_mut(place).expect("a value");
        *number = (number.as_f64().expect("a number") * 1.01).into();
    }
    for place in [
        "/pred/zh_0.3/2",
        "/pred/h_sim/0",
        "/tokens_first_label/7/3",
        "/n_labels",
    ] {
        let number = data.pointer_mut(place).expect("a value");
        *number = (number.as_i64().expect("a number") + 1).into();
    }
    fs::write(&copy, value.to_string()).expect("written");
    let groups = parity::check(&copy).expect("a golden file");
    // Embeddings of 4 images and 10 classes in both heads, similarities and predictions.
    let checks: usize = groups.iter().map(|group| group.report.checks.len()).sum();
    assert!(checks > 2 * 256 * 14 + 2 * 2 * 40, "{checks} checks");
    insta::assert_snapshot!(failed(&groups).join("\n"), @r"
    cifar10/n_labels
    cifar10/classes
    cifar10/class_cos_z[2][5]
    recorded cifar10/z_sim[1][3]
    recorded cifar10/z_sim stored[1][3]
    recorded cifar10/h_sim[3][9]
    recorded cifar10/h_sim stored[3][9]
    recorded cifar10/pred/h[0]
    recorded cifar10/pred/zh_0.3[2]
    cifar10/tokens[7]
    cifar10/z_sim[1][3]
    cifar10/h_sim[3][9]
    cifar10/pred/h[0]
    cifar10/pred/zh_0.3[2]
    ");
}
