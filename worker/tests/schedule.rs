//! The learning-rate schedule.

use rocket_common::experiment::Optim;
use rocket_worker::optim::schedule::Schedule;
use rocket_worker::parity::lr_schedules;

fn golden() -> serde_json::Value {
    let text = include_str!("golden/lr_schedules/lr_schedules.json");
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn every_recorded_schedule_is_met() {
    assert!(lr_schedules::recognises(&golden()));
    let report = lr_schedules::check(&golden()).expect("a golden file");
    assert!(report.passed(), "{:?}", report.worst());
    assert_eq!(report.checks.len(), 1000 + 52 + 150 + 2 + 4);
}

#[test]
fn a_changed_value_fails() {
    for (case, step) in [(0, 0), (0, 39), (0, 40), (1, 51), (2, 0), (3, 1)] {
        let mut changed = golden();
        let value = &mut changed[case]["values"][step];
        *value = (value.as_f64().expect("a number") * 1.01).into();
        let report = lr_schedules::check(&changed).expect("a golden file");
        let failed: Vec<_> = report
            .checks
            .iter()
            .filter(|c| !c.passed())
            .map(|c| &c.name)
            .collect();
        assert_eq!(failed, [&format!("{case}.lr[{step}]")]);
    }
}

#[test]
fn a_missing_step_fails() {
    let mut changed = golden();
    changed[1]["values"].as_array_mut().expect("a list").pop();
    assert!(
        !lr_schedules::check(&changed)
            .expect("a golden file")
            .passed()
    );
}

fn optim(warmup_epochs: f64) -> Optim {
    Optim {
        warmup_epochs,
        ..Optim::default()
    }
}

#[test]
fn warm_up_is_counted_in_epochs_also_when_the_length_is_in_steps() {
    // Epochs of 10 steps, 25 steps in all, half an epoch of warm-up.
    let schedule = Schedule::new(&optim(0.5), 10, 25);
    assert_eq!(schedule.warmup_steps, 5);
    assert_eq!(schedule.lr(0), 1e-6);
    assert_eq!(schedule.lr(4), 3e-3);
    assert_eq!(schedule.lr(5), 3e-3);
    assert!((1..25).all(|i| i < 5 || schedule.lr(i) <= schedule.lr(i - 1)));
    assert!(schedule.lr(24) < 6e-5 && schedule.lr(24) > 1e-5);
}

#[test]
fn a_run_shorter_than_its_warm_up_is_the_beginning_of_one() {
    let long = Schedule::new(&optim(2.0), 100, 1000);
    let short = Schedule::new(&optim(2.0), 100, 30);
    assert!((0..30).all(|step| long.lr(step) == short.lr(step)));
    assert!(long.reaches_peak() && !short.reaches_peak());
}

#[test]
fn steps_past_the_last_have_the_end_rate() {
    let schedule = Schedule::new(&optim(1.0), 10, 20);
    for step in [20, 21, 1000, u64::MAX] {
        assert_eq!(schedule.lr(step), 1e-5);
    }
}

#[test]
fn one_step_of_warm_up_has_the_start_rate_and_none_begins_at_the_peak() {
    assert_eq!(Schedule::new(&optim(1.0), 1, 2).lr(0), 1e-6);
    assert_eq!(Schedule::new(&optim(0.0), 1, 2).lr(0), 3e-3);
}
