//! `rocket plot`.
#![allow(missing_docs)]

mod support;

use std::fs;

use support::Env;

#[test]
fn curves_become_a_picture() {
    let env = Env::with_job("true", 1);
    let run = env.submit(&[]);
    env.wait_for_status(&run, "finished");
    let said = env.rocket(&["plot", &run]).fails();
    assert!(said.stderr.contains("has no metrics yet"), "{said}");

    let mut lines = String::new();
    for step in 1..=300 {
        let loss = 9.0 * (-f64::from(step) / 80.0).exp() + 1.0;
        lines.push_str(&format!(
            "{{\"kind\":\"train\",\"step\":{step},\"loss\":{loss},\"lr\":0.001}}\n"
        ));
        if step % 50 == 0 {
            let top1 = 0.03 * f64::from(step); // per cent
            lines.push_str(&format!("{{\"kind\":\"eval\",\"step\":{step},\"emoji/z_top1\":{top1},\"emoji/z_top5\":{}}}\n", 2.5 * top1));
        }
    }
    fs::write(env.run_dir(&run).join("metrics.jsonl"), lines).unwrap();
    let said = env.rocket(&["plot", &run, "-o", "curves.png"]).ok();
    assert_eq!(said.stdout, "curves.png\n");
    let picture = image::open(env.repo().join("curves.png"))
        .unwrap()
        .to_rgb8();
    assert_eq!(picture.dimensions(), (1600, 700));
    // Blue is the first curve's colour in both panels: it is there, on both sides.
    let blue = |from: u32| {
        picture
            .enumerate_pixels()
            .filter(|(x, _, p)| (from..from + 800).contains(x) && p.0 == [0, 114, 178])
            .count()
    };
    assert!(
        blue(0) > 300 && blue(800) > 100,
        "{} {}",
        blue(0),
        blue(800)
    );
}
