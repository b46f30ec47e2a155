//! `rocket plot`.
#![allow(missing_docs)]

#[path = "support/made.rs"]
mod made;
mod support;

use std::fs;

use made::Made;
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
    assert_eq!(picture.dimensions(), (1600, 664));
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

fn runs(env: &Env) {
    for (index, (seed, lr)) in [
        (0, "0.001"),
        (10, "0.001"),
        (50, "0.001"),
        (0, "0.002"),
        (10, "0.002"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut made = Made::new(&format!("cl2l-{index}-1111111{index}"));
        (made.seed, made.lr, made.steps) = (seed, lr, 600);
        made.write(&env.path("repo/runs"));
    }
}

#[test]
fn several_runs_metrics_and_axes() {
    let env = Env::new();
    runs(&env);
    let said = env
        .rocket(&[
            "plot", "cl2l-*", "-o", "all.svg", "-m", "loss", "-m", "*top1", "-m", "lr", "-x",
            "time", "--smooth", "0.95",
        ])
        .ok();
    assert_eq!(said.stdout, "all.svg\n");
    let svg = fs::read_to_string(env.repo().join("all.svg")).unwrap();
    for text in [
        "cl2l-4-11111114",
        "training time",
        "emoji/z top1",
        "emoji/h top1",
        "<svg ",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(!svg.contains("\"rocket\""), "a font that nobody has");
    // Five runs, five panels, each with its raw curve behind but for the scores with their four values.
    assert!(
        svg.matches("<polyline").count() >= 25,
        "{}",
        svg.matches("<polyline").count()
    );
    env.rocket(&["plot", "cl2l-*", "--log", "-x", "epoch"]).ok();
}

#[test]
fn seeds_become_a_band() {
    let env = Env::new();
    runs(&env);
    let json = env
        .rocket(&["plot", "cl2l-*", "--group", "--json", "-m", "loss"])
        .ok()
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let lines = json["panels"][0]["lines"].as_array().unwrap();
    let labels: Vec<&str> = lines
        .iter()
        .map(|line| line["label"].as_str().unwrap())
        .collect();
    assert_eq!(
        labels,
        ["optim.lr=0.001 (3 seeds)", "optim.lr=0.002 (2 seeds)"]
    );
    assert_eq!(lines[0]["band"].as_array().unwrap().len(), 600);
    env.rocket(&["plot", "cl2l-*", "--group", "-o", "group.png"])
        .ok();
    env.rocket(&["plot", "cl2l-*", "--group", "-o", "group.svg"])
        .ok();
}

#[test]
fn mistakes_are_named() {
    let env = Env::new();
    runs(&env);
    for (args, words) in [
        (
            &["plot", "cl2l-*", "-o", "x.pdf"][..],
            "ends neither in .png nor in .svg",
        ),
        (
            &["plot", "cl2l-*", "--smooth", "1"],
            "is not a weight from 0 to below 1",
        ),
        (&["plot", "cl2l-*", "-m", "lss"], "there is no metric 'lss'"),
    ] {
        let said = env.rocket(args).fails();
        assert!(said.stderr.contains(words), "{said}");
    }
}
