//! Every recorded model: what is recorded is met, and what is changed is found.
//!
//! A model runs once, in float32 and in float64, and one model after the other: each takes both cores
//! and some gigabytes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rocket_worker::parity::models::Runs;
use rocket_worker::parity::{self, Group, Source};
use serde_json::Value;

static TURN: Mutex<()> = Mutex::new(());

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/models")
        .join(name)
}

fn passed(groups: &[Group]) -> bool {
    groups.iter().all(|group| group.report.passed())
}

/// Keys of an object.
fn keys(value: &Value) -> Vec<String> {
    let object = value.as_object();
    object.map_or(Vec::new(), |object| object.keys().cloned().collect())
}

/// `count` of them, evenly spaced.
fn some(all: Vec<String>, count: usize) -> Vec<String> {
    let step = all.len().div_ceil(count).max(1);
    all.into_iter().step_by(step).collect()
}

/// Places of numbers that a change of 1 % must show in: every loss term, every output that is compared,
/// and some of the parameters and buffers that are well conditioned.
fn places(value: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for losses in ["loss_step1", "loss_step1_f64", "loss_step2_f64"] {
        let terms = value[losses].as_object().into_iter().flatten();
        all.extend(
            terms
                .filter(|(_, number)| number.as_f64().is_some_and(|number| number != 0.0))
                .map(|(term, _)| format!("/{losses}/{term}")),
        );
    }
    let is_compared = |name: &String| {
        !name.contains("_momentum") || name.starts_with("feats_") || name.starts_with("v_")
    };
    let outputs = keys(&value["outputs"]).into_iter().filter(is_compared);
    all.extend(outputs.map(|name| format!("/outputs/{name}/l2")));
    let known_well = |name: &String| {
        let number = |key: &str| value["params"][name][key].as_f64().unwrap_or(f64::INFINITY);
        let of_step = number("step1_maxabsdiff_f64") / number("step1_l2");
        number("grad_reldiff_f64") < 1e-3 && of_step < 1e-3
    };
    let params: Vec<String> = keys(&value["params"])
        .into_iter()
        .filter(known_well)
        .collect();
    for name in some(params, 6) {
        for what in ["grad_l2", "grad_l2_f64", "step1_l2"] {
            all.push(format!("/params/{name}/{what}"));
        }
    }
    for name in some(keys(&value["buffers_after_step1"]), 4) {
        all.push(format!("/buffers_after_step1/{name}/l2"));
    }
    let momentum = keys(&value["momentum_params_after_step1"]);
    for name in some(momentum.into_iter().filter(known_well).collect(), 4) {
        all.push(format!("/momentum_params_after_step1/{name}/l2"));
    }
    all
}

/// Runs a model and compares with its file, and with copies of it that are wrong in one place.
#[track_caller]
fn check(name: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(2);
    let started = Instant::now();
    let source = Source::read(&golden(&format!("{name}.hash.json"))).expect("reads");
    let runs = Runs::of(&source).expect("runs");
    let groups = runs.compare(&source).expect("compares");
    for group in &groups {
        let worst = group.report.worst();
        println!("{name} {}: {worst:?}", group.name);
        assert!(group.report.passed(), "{name}, {}: {worst:?}", group.name);
    }
    println!("{name}: {:.0} s", started.elapsed().as_secs_f64());
    let places = places(&source.value);
    assert!(places.len() > 40, "{places:?}");
    for place in places {
        let mut changed = Source {
            path: source.path.clone(),
            value: source.value.clone(),
        };
        let number = changed.value.pointer_mut(&place);
        let number = number.unwrap_or_else(|| panic!("{place} is there"));
        *number = Value::from(number.as_f64().expect("a number") * 1.01);
        let groups = runs.compare(&changed).expect("compares");
        assert!(
            !passed(&groups),
            "{name}: {place} changed by 1 % was not found"
        );
    }
    let mut changed = source;
    changed.value["state_dict"][7][0] = Value::from("visual.of.another.name");
    assert!(!passed(&runs.compare(&changed).expect("compares")));
    println!("{name}: {:.0} s in all", started.elapsed().as_secs_f64());
}

macro_rules! models {
    ($($test:ident: $name:literal,)*) => {$(
        #[test]
        fn $test() {
            check($name);
        }
    )*};
}

models! {
    clip_r50: "CLIP_R50_CLIP",
    clip_r50_swalipv1: "CLIP_R50_SWALIPV1",
    cl2l_r50: "CL2L_R50_CL2L",
    cl2l_r50_separate: "CL2L_R50_CL2L_sep",
    cl2l_r50_barlip: "CL2L_R50_BARLIP_small",
    cl2l_r50_siamlip: "CL2L_R50_SIAMLIP",
    cl2l_r50_byolip: "CL2L_R50_SIAMLIP_momentum",
    cl2l_vitb16_separate: "CL2L_VITB16_CL2L_sep",
    cl2l_vits16moco_separate: "CL2L_VITS16MOCO_CL2L_sep",
    cl2l_vits16moco_swalip: "CL2L_VITS16MOCO_SWALIP",
}

#[test]
fn no_recorded_model_is_left_out() {
    let tested = [
        "CL2L_R50_BARLIP_small",
        "CL2L_R50_CL2L",
        "CL2L_R50_CL2L_sep",
        "CL2L_R50_SIAMLIP",
        "CL2L_R50_SIAMLIP_momentum",
        "CL2L_VITB16_CL2L_sep",
        "CL2L_VITS16MOCO_CL2L_sep",
        "CL2L_VITS16MOCO_SWALIP",
        "CLIP_R50_CLIP",
        "CLIP_R50_SWALIPV1",
    ];
    let mut there: Vec<String> = std::fs::read_dir(golden(""))
        .expect("a folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".hash.json")?.to_owned()))
        .collect();
    there.sort();
    assert_eq!(there, tested);
}

#[test]
fn what_this_version_lacks_is_an_error_and_not_a_pass() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.hash.json");
    let cases = [
        ("CL2L_R51_CL2L", "[]", "R51"),
        ("CL2L_R50_CL3L", "[]", "CL3L"),
        ("CL2L_R50_CL2L", r#"["--semi-paired"]"#, "--semi-paired"),
    ];
    for (model, argv, says) in cases {
        for end in ["json", "safetensors"] {
            let from = golden(&format!("CLIP_R50_CLIP.hash.{end}"));
            std::fs::copy(from, path.with_extension(end)).expect("copies");
        }
        let text = std::fs::read_to_string(&path).expect("reads");
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        value["model"] = Value::from(model);
        value["argv"] = serde_json::from_str(argv).expect("JSON");
        std::fs::write(&path, value.to_string()).expect("writes");
        let error = parity::check(&path).expect_err("not a pass");
        assert!(error.contains(says), "{error}");
    }
}
