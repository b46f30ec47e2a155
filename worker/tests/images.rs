//! Pictures against recorded ones.

use std::path::Path;

use rocket_worker::parity;

#[test]
fn pictures_and_operations_are_the_recorded_ones() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images/images.json");
    let groups = parity::check(&file).unwrap();
    let report = &groups[0].report;
    let wrong: Vec<_> = report
        .checks
        .iter()
        .filter(|check| !check.passed())
        .collect();
    assert!(report.checks.len() > 500, "{} checks", report.checks.len());
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
    println!("worst: {:?}", report.worst());
}
