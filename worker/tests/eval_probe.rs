//! Linear probes: the fit against scikit-learn's, the search, and `rocket-worker probe`.

mod eval_support;
mod run_support;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use eval_support::write_json;
use rocket_common::run_dir::RunDir;
use rocket_worker::eval::probe::{self, Fit, Probe, Split};
use serde_json::{Value, json};
use tch::Tensor;

/// N samples of F features in C classes, by a formula.
fn split(n: i64, f: i64, c: i64) -> Split {
    let value = |i: i64, k: i64| {
        let (x, y, class) = (i as f64, k as f64, (i % c) as f64);
        (1.7 * x + 0.9 * y * y + 0.3).sin() + 0.2 * class * (y + class).cos()
    };
    let values: Vec<f32> = (0..n)
        .flat_map(|i| (0..f).map(move |k| value(i, k) as f32))
        .collect();
    Split {
        features: Tensor::from_slice(&values).view([n, f]),
        targets: (0..n).map(|i| i % c).collect(),
    }
}

/// `LogisticRegression(C=1 / lambda, tol=1e-12)` of scikit-learn 1.7.2 on the same values, which was
/// fitted to float64: coefficients by class, intercepts, and how many samples it gets right.
struct Recorded {
    lambda: f64,
    coefficients: [[f64; 4]; 3],
    intercepts: [f64; 3],
    right: i64,
}

const RECORDED: [Recorded; 2] = [
    Recorded {
        lambda: 0.1,
        coefficients: [
            [1.62298, 3.721234, 4.773262, -0.809459],
            [-0.765249, 1.08632, -0.066689, -0.944322],
            [-0.857731, -4.807554, -4.706574, 1.753782],
        ],
        intercepts: [1.147363, 0.550018, -1.69738],
        right: 28,
    },
    Recorded {
        lambda: 10.0,
        coefficients: [
            [-5.7e-05, 0.117018, 0.177661, -0.019527],
            [0.058069, 0.069776, -0.006476, -0.060027],
            [-0.058012, -0.186794, -0.171185, 0.079554],
        ],
        intercepts: [0.045847, 0.010312, -0.05616],
        right: 19,
    },
];

#[test]
fn a_fit_is_the_minimum_that_scikit_learn_finds() {
    let data = split(30, 4, 3);
    let fit = Fit::new(3);
    let mut before: Option<Probe> = None;
    for recorded in &RECORDED {
        // From the start and from the solution for another strength: the minimum is one.
        for start in [None, before.as_ref()] {
            let probe = Probe::fit(&data, recorded.lambda, &fit, start);
            let (coefficients, intercepts) = probe.coefficients();
            for (class, row) in recorded.coefficients.iter().enumerate() {
                for (k, want) in row.iter().enumerate() {
                    let got = coefficients.double_value(&[class as i64, k as i64]);
                    assert!((got - want).abs() < 2e-4, "{class} {k}: {got}, not {want}");
                }
                // Of the intercepts only differences count: nothing holds their sum.
                let got = intercepts.double_value(&[class as i64]) - intercepts.double_value(&[0]);
                let want = recorded.intercepts[class] - recorded.intercepts[0];
                assert!((got - want).abs() < 2e-4, "{class}: {got}, not {want}");
            }
            let (tally, auc) = probe::tally(&probe.scores(&data.features), &data.targets);
            assert_eq!((tally.top1_count(), auc), (recorded.right, None));
        }
        before = Some(Probe::fit(&data, recorded.lambda, &fit, None));
    }
}

#[test]
fn of_two_classes_the_difference_is_that_of_twice_the_c() {
    // scikit-learn has one vector for two classes; here each class has its own, and half the penalty.
    let data = split(20, 3, 2);
    let recorded = [
        (0.1, [-3.336396, -4.652066, -7.404306], -0.746971, 20),
        (10.0, [0.119706, -0.137794, -0.169764], -0.035547, 12),
    ];
    for (lambda, row, intercept, right) in recorded {
        let probe = Probe::fit(&data, lambda, &Fit::new(2), None);
        let (w, b) = probe.coefficients();
        for (k, want) in (0..).zip(row) {
            let got = w.double_value(&[1, k]) - w.double_value(&[0, k]);
            assert!((got - want).abs() < 5e-4, "{k}: {got}, not {want}");
        }
        let got = b.double_value(&[1]) - b.double_value(&[0]);
        assert!((got - intercept).abs() < 5e-4, "{got}, not {intercept}");
        let (tally, auc) = probe::tally(&probe.scores(&data.features), &data.targets);
        assert_eq!(tally.top1_count(), right);
        assert!(
            auc.is_some_and(|auc| (50.0..=100.0).contains(&auc)),
            "{auc:?}"
        );
    }
}

#[test]
fn a_fifth_of_each_class_is_kept_back() {
    // 20 of class 0, 7 of class 1, 2 of class 2, 1 of class 3.
    let targets: Vec<i64> = [(0, 20), (1, 7), (2, 2), (3, 1)]
        .into_iter()
        .flat_map(|(class, count)| std::iter::repeat_n(class, count))
        .collect();
    let (fit, check) = probe::divide(&targets, 0);
    let count = |part: &[i64], class| {
        let of = |index: &&i64| targets[**index as usize] == class;
        part.iter().filter(of).count()
    };
    let kept: Vec<usize> = (0..4).map(|class| count(&check, class)).collect();
    assert_eq!(kept, [4, 1, 1, 0]);
    let mut all = [fit.clone(), check.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<_>>());
    assert_eq!(probe::divide(&targets, 0), (fit, check.clone()));
    assert_ne!(probe::divide(&targets, 1).1, check);
}

#[test]
fn the_search_ends_at_an_eighth_of_a_decade() {
    let eighths = |lambda: f64| (lambda.log10() * 8.0).round();
    // One hill, whose top is no point of the first, coarse look.
    let (chosen, tried) = probe::search(|lambda| -(eighths(lambda) - 11.0).abs());
    assert_eq!(eighths(chosen), 11.0);
    assert!(tried.len() < 7 + 2 * 4 + 1, "{tried:?}");
    assert!(tried.is_sorted_by(|a, b| a.lambda < b.lambda));
    // At the ends nothing is looked for outside; of equals the stronger wins.
    assert_eq!(eighths(probe::search(|lambda| lambda).0), 48.0);
    assert_eq!(eighths(probe::search(|lambda| -lambda).0), -48.0);
    assert_eq!(eighths(probe::search(|_| 1.0).0), 48.0);
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny")
}

/// A run with a checkpoint of step 10, and all but the catalog of the set `tiny`.
fn run_with_labels(root: &Path) -> RunDir {
    let experiment = run_support::experiment(run_support::TINY);
    let run = run_support::create(root, &experiment);
    run_support::save(&run, &run_support::model(&experiment, 0), 10, &[]);
    let pin = run.path().join("pin");
    fs::create_dir_all(&pin).expect("created");
    for file in ["labels.json", "templates.json"] {
        fs::copy(tiny().join(file), pin.join(file)).expect("copied");
    }
    run
}

/// Exit code and output of a probe on the set `tiny`.
fn probe_tiny(run: &RunDir, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .args(["probe", "--datasets", "tiny", "--run"])
        .arg(run.path())
        .args(args)
        .env_remove("ROCKET_PIN_DIR")
        .output()
        .expect("it ran");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_set_is_probed_and_its_features_are_kept() {
    let root = tempfile::tempdir().expect("a folder");
    let run = run_with_labels(root.path());
    let (data, pin) = (tiny(), run.path().join("pin"));
    // The probe is fitted to what it is scored on: it must get most of it right.
    let entry = |train: Option<&str>| {
        let mut entry = json!({"path": data.join("eval"), "type": "imagefolder", "test": "val"});
        if let Some(train) = train {
            entry["train"] = train.into();
        }
        entry
    };
    write_json(
        &pin.join("dataset_catalog.json"),
        &json!({"tiny": entry(Some("val"))}),
    );
    let probe = |args: &[&str]| probe_tiny(&run, args);
    let (code, out, err) = probe(&["--lambda", "0.001", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let told: Value = serde_json::from_str(&out).expect("JSON");
    let result = &told[0];
    assert_eq!(
        (
            &result["train_samples"],
            &result["test_samples"],
            &result["features"]
        ),
        (&json!(8), &json!(8), &json!(16))
    );
    assert!(
        result["top1"].as_f64().is_some_and(|top1| top1 > 80.0),
        "{result}"
    );
    let written = fs::read(run.eval_dir().join("probe-tiny-step-10.json")).expect("a result");
    let written: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(written, *result);

    // Kept features give the same; the search names all that it tried.
    let (_, again, err) = probe(&["--lambda", "0.001", "--json"]);
    assert!(err.contains("are kept from before"), "{err}");
    assert_eq!(again, out);
    let (code, out, err) = probe(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.starts_with("tiny: linear probe on 16 features: top-1 "),
        "{out}"
    );
    let searched = fs::read(run.eval_dir().join("probe-tiny-step-10.json")).expect("a result");
    let searched: Value = serde_json::from_slice(&searched).expect("JSON");
    assert!(
        searched["search"]
            .as_array()
            .is_some_and(|tried| tried.len() >= 7)
    );

    // A set without a split for training says so.
    write_json(
        &pin.join("dataset_catalog.json"),
        &json!({"tiny": entry(None)}),
    );
    let (code, _, err) = probe(&[]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("the key 'train' is missing"), "{err}");
}

/// The kept features went by labels and weights alone: other images, and a model of other heads with the same
/// shapes, got those of before.
#[test]
fn features_of_other_images_or_of_another_model_are_computed() {
    let root = tempfile::tempdir().expect("a folder");
    let run = run_with_labels(root.path());
    let images = root.path().join("images");
    for class in ["building", "flower"] {
        let (from, to) = (tiny().join("eval/val").join(class), images.join(class));
        fs::create_dir_all(&to).expect("created");
        for number in ["09", "19"] {
            let name = format!("{class}_{number}.jpg");
            fs::copy(from.join(&name), to.join(&name)).expect("copied");
        }
    }
    write_json(
        &run.path().join("pin/dataset_catalog.json"),
        &json!({"tiny": {"path": root.path(), "type": "imagefolder", "train": "images", "test": "images"}}),
    );
    let are_kept = || {
        let (code, _, err) = probe_tiny(&run, &["--lambda", "1"]);
        assert_eq!(code, Some(0), "{err}");
        err.contains("are kept from before")
    };
    assert!(!are_kept());
    assert!(are_kept());

    let picture = images.join("building");
    fs::copy(
        picture.join("building_19.jpg"),
        picture.join("building_09.jpg"),
    )
    .expect("copied");
    assert!(!are_kept());
    assert!(are_kept());

    let other = run_support::TINY.replace("depth: 1, heads: 2", "depth: 1, heads: 4");
    assert_ne!(other, run_support::TINY);
    let other = run_support::experiment(&other);
    fs::write(run.experiment_path(), other.to_yaml()).expect("written");
    assert!(!are_kept());
}
