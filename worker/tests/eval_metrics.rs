//! Counts, mean per class and ROC-AUC.

use rocket_worker::eval::metrics::{Tally, places, roc_auc_percent};
use rocket_worker::parity::metrics;
use tch::Tensor;

fn golden() -> serde_json::Value {
    serde_json::from_str(include_str!("golden/metrics/metrics.json")).expect("JSON")
}

#[test]
fn every_recorded_figure_is_met() {
    assert!(metrics::recognises(&golden()));
    let report = metrics::check(&golden()).expect("a golden file");
    assert!(report.passed(), "{:?}", report.worst());
    // 4 x (value, top-1, top-k), 3 x value, 3 x (prediction, 2 of top-k).
    assert_eq!(report.checks.len(), 4 * 3 + 3 + 3 * 3);
    assert_eq!(report.skipped.len(), 1, "the original's NaN");
}

#[test]
fn a_changed_value_fails() {
    let golden = golden();
    let mut changes = Vec::new();
    for (i, case) in golden.as_array().expect("a list").iter().enumerate() {
        let places: Vec<String> = match case["metric"].as_str() {
            Some("argmax_ties") => vec![format!("/{i}/pred/1"), format!("/{i}/topk/2/1")],
            Some("mean_per_class") if case["value"].is_number() => vec![
                format!("/{i}/value"),
                format!("/{i}/acc_top1_topk/0"),
                format!("/{i}/acc_top1_topk/1"),
            ],
            Some("mean_per_class") => vec![format!("/{i}/acc_top1_topk/1")],
            _ => vec![format!("/{i}/value")],
        };
        changes.extend(places);
    }
    for place in changes {
        let mut changed = golden.clone();
        let value = changed.pointer_mut(&place).expect("a value");
        *value = match value.as_i64() {
            Some(class) => (class + 1).into(),
            None => (value.as_f64().expect("a number") * 1.01).into(),
        };
        let report = metrics::check(&changed).expect("a golden file");
        assert_eq!(
            report.checks.iter().filter(|c| !c.passed()).count(),
            1,
            "{place}"
        );
    }
}

#[test]
fn an_unknown_metric_is_an_error() {
    let value = serde_json::json!([{"metric": "iou", "outputs": [[1.0, 2.0]], "value": 3.0}]);
    assert_eq!(
        metrics::check(&value).expect_err("unknown"),
        "case 0: the metric 'iou' is not known"
    );
}

#[test]
fn the_place_among_equals_is_the_index() {
    let similarity = Tensor::from_slice2(&[[0.5_f32, 0.7, 0.5, 0.7], [0.1, 0.1, 0.1, 0.1]]);
    let place = |class: i64| {
        let targets = Tensor::from_slice(&[class, class]);
        Vec::<i64>::try_from(places(&similarity, &targets)).expect("a vector")
    };
    assert_eq!(
        [place(0), place(1), place(2), place(3)],
        [[2, 0], [0, 1], [3, 2], [1, 3]]
    );
}

#[test]
fn classes_without_images_do_not_count() {
    let mut tally = Tally::new(3);
    tally.count(0, 0);
    tally.count(0, 5);
    tally.count(2, 4);
    assert_eq!(tally.mean_per_class_percent(), 25.0);
    assert_eq!((tally.top1_count(), tally.top5, tally.samples()), (1, 2, 3));
}

#[test]
fn the_area_counts_equal_scores_half_and_needs_both_classes() {
    assert_eq!(roc_auc_percent(&[(1.0, true), (1.0, false)]), Some(50.0));
    assert_eq!(
        roc_auc_percent(&[(2.0, true), (1.0, false), (0.0, true)]),
        Some(50.0)
    );
    assert_eq!(roc_auc_percent(&[(2.0, true)]), None);
    assert_eq!(roc_auc_percent(&[]), None);
}
