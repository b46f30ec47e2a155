//! Scoring: the same figures at every number of ranks and threads, and no figure from what cannot
//! be scored.

mod eval_support;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Barrier, Mutex};

use eval_support::hash;
use rocket_common::exit::ExitKind;
use rocket_worker::eval::classes::Matched;
use rocket_worker::eval::classifier::EncodeError;
use rocket_worker::eval::metrics::Metric;
use rocket_worker::eval::zeroshot::{Scores, score};
use rocket_worker::eval::{
    Classifier, Encoder, EvalError, EvalSet, Head, Heads, Prompts, Samples, Settings, Shard,
    ZeroShot,
};
use tch::{Kind, Tensor};

const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());
const CLASSES: usize = 7;
const SAMPLES: usize = 101;
const SIDE: usize = 4;
const WIDTH: i64 = 12;
const SETTINGS: Settings = Settings {
    image_batch: 8,
    text_batch: 5,
    threads: 2,
    details: false,
};

/// Pictures and classes that are a function of the index.
struct Synthetic {
    samples: usize,
    classes: usize,
    /// Cannot be read.
    broken: Vec<usize>,
}

impl Samples for Synthetic {
    fn len(&self) -> usize {
        self.samples
    }

    fn target(&self, index: usize) -> usize {
        (hash("target", index as u64).abs() * self.classes as f32) as usize % self.classes
    }

    fn pixels(&self, index: usize, side: usize, out: &mut [f32]) -> Result<(), EvalError> {
        assert_eq!(out.len(), 3 * side * side);
        if self.broken.contains(&index) {
            let path = PathBuf::from(format!("{index}.jpg"));
            return Err(EvalError::Image {
                path,
                cause: "it is broken".to_owned(),
            });
        }
        for (i, value) in out.iter_mut().enumerate() {
            // Something of the class, so that scores are neither all right nor all wrong.
            let class = hash(&format!("class {}", self.target(index)), i as u64);
            *value = class + 4.0 * hash(&format!("image {index}"), i as u64);
        }
        Ok(())
    }
}

fn set(samples: Synthetic, metric: Metric) -> EvalSet {
    let names: Vec<String> = (0..samples.classes).map(|i| format!("class {i}")).collect();
    let by_class = names
        .iter()
        .enumerate()
        .map(|(i, name)| vec![name.clone(); 1 + i % 3])
        .collect();
    EvalSet {
        name: "synthetic".to_owned(),
        samples: Box::new(samples),
        class_names: names,
        prompts: Prompts { by_class },
        matched: Matched::SortedOrder,
        metric,
    }
}

fn usual() -> EvalSet {
    set(
        Synthetic {
            samples: SAMPLES,
            classes: CLASSES,
            broken: vec![],
        },
        Metric::Top1,
    )
}

/// Linear maps with fixed weights; h is optional.
struct Linear {
    has_h: bool,
    /// Factor of the embeddings.
    scale: f64,
}

const MODEL: Linear = Linear {
    has_h: true,
    scale: 1.0,
};

impl Linear {
    fn heads(&self, input: &Tensor, name: &str) -> Heads {
        let map = |head: &str| {
            let width = input.size()[1];
            let weights: Vec<f32> = (0..width * WIDTH)
                .map(|i| hash(&format!("{name} {head}"), i as u64))
                .collect();
            input.matmul(&Tensor::from_slice(&weights).view([width, WIDTH])) * self.scale
        };
        // The same map for both modalities, so that they have something to do with each other.
        Heads {
            z: map("z"),
            h: self.has_h.then(|| map("h")),
        }
    }
}

impl Encoder for Linear {
    fn encode_image(&self, images: &Tensor) -> Result<Heads, EncodeError> {
        Ok(self.heads(&images.flatten(1, -1), "map"))
    }

    fn encode_text(&self, tokens: &Tensor) -> Result<Heads, EncodeError> {
        Ok(self.heads(&(tokens.to_kind(Kind::Float) / 1000.0), "map"))
    }

    fn image_size(&self) -> usize {
        SIDE
    }
}

/// A row of 48 numbers made of the text.
fn tokenize(text: &str) -> Vec<i64> {
    (0..3 * (SIDE * SIDE) as u64)
        .map(|i| (1000.0 * hash(text, i)) as i64)
        .collect()
}

fn run(
    model: &Linear,
    set: &EvalSet,
    settings: &Settings,
    shard: &Shard,
) -> Result<Scores, EvalError> {
    let classifier = Classifier::new(
        model,
        &set.prompts,
        &tokenize,
        settings.text_batch,
        shard,
        &set.name,
        &mut || CONTINUE,
    )?;
    score(model, &classifier, set, settings, shard, |_, _| CONTINUE)
}

/// Sums over threads that stand for ranks.
struct Ring {
    barrier: Barrier,
    parts: Mutex<Vec<(usize, Tensor)>>,
}

impl Ring {
    fn sum(&self, rank: usize, tensor: &Tensor) -> Tensor {
        self.parts
            .lock()
            .expect("a lock")
            .push((rank, tensor.copy()));
        self.barrier.wait();
        let sum = {
            let parts = self.parts.lock().expect("a lock");
            let mut order: Vec<_> = parts.iter().collect();
            order.sort_by_key(|(rank, _)| *rank);
            order
                .iter()
                .skip(1)
                .fold(order[0].1.copy(), |sum, (_, part)| sum + part)
        };
        self.barrier.wait();
        self.parts.lock().expect("a lock").clear();
        self.barrier.wait();
        sum
    }
}

/// Scores with `world` threads as ranks; all must return the same.
fn over_ranks(world: usize, metric: Metric, classes: usize) -> Scores {
    let ring = Arc::new(Ring {
        barrier: Barrier::new(world),
        parts: Mutex::new(Vec::new()),
    });
    let ranks: Vec<_> = (0..world)
        .map(|rank| {
            let ring = Arc::clone(&ring);
            std::thread::spawn(move || {
                let sum =
                    |tensor: &Tensor| -> Result<Tensor, EncodeError> { Ok(ring.sum(rank, tensor)) };
                let set = set(
                    Synthetic {
                        samples: SAMPLES,
                        classes,
                        broken: vec![],
                    },
                    metric,
                );
                run(&MODEL, &set, &SETTINGS, &Shard::new(rank, world, &sum)).expect("scores")
            })
        })
        .collect();
    let mut scores: Vec<_> = ranks
        .into_iter()
        .map(|rank| rank.join().expect("a rank"))
        .collect();
    let first = scores.remove(0);
    assert!(
        scores.iter().all(|other| *other == first),
        "ranks disagree at W = {world}"
    );
    first
}

#[test]
fn figures_are_identical_over_any_number_of_ranks_and_threads() {
    let alone = run(&MODEL, &usual(), &SETTINGS, &Shard::alone()).expect("scores");
    let z = &alone.heads[0].tally;
    assert!(
        z.top1_count() > 101 / 7 && z.top1_count() < 101,
        "a score that can change: {z:?}"
    );
    assert_eq!(z.samples(), 101);
    // 13 batches of images and 4 of texts: uneven over 2, 3, 5, and fewer than ranks at 14.
    for world in [1, 2, 3, 5, 14] {
        assert_eq!(
            over_ranks(world, Metric::Top1, CLASSES),
            alone,
            "W = {world}"
        );
    }
    let threads = Settings {
        threads: 5,
        ..SETTINGS
    };
    assert_eq!(
        run(&MODEL, &usual(), &threads, &Shard::alone()).expect("scores"),
        alone
    );
}

#[test]
fn the_area_under_the_curve_is_identical_over_ranks() {
    let one = over_ranks(1, Metric::RocAuc, 2);
    let auc = one.heads[0].roc_auc.expect("an area");
    assert!(auc > 1.0 && auc < 99.0, "{auc}");
    for world in [2, 3] {
        assert_eq!(over_ranks(world, Metric::RocAuc, 2), one);
    }
}

#[test]
fn the_counts_are_those_of_a_plain_reckoning() {
    let set = usual();
    let scores = run(&MODEL, &set, &SETTINGS, &Shard::alone()).expect("scores");
    // In float64 and with loops, from the same maps.
    let unit = |row: Vec<f64>| {
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.into_iter().map(|v| v / length).collect::<Vec<_>>()
    };
    let embed = |input: &[f64], head: &str| -> Vec<f64> {
        unit(
            (0..WIDTH as usize)
                .map(|j| {
                    let weight = |i: usize| {
                        f64::from(hash(
                            &format!("map {head}"),
                            (i * WIDTH as usize + j) as u64,
                        ))
                    };
                    input.iter().enumerate().map(|(i, v)| v * weight(i)).sum()
                })
                .collect(),
        )
    };
    let classes = |head: &str| -> Vec<Vec<f64>> {
        let class = |texts: &Vec<String>| {
            let mut mean = vec![0.0; WIDTH as usize];
            for text in texts {
                let tokens: Vec<f64> = tokenize(text)
                    .iter()
                    .map(|&t| f64::from(t as f32 / 1000.0))
                    .collect();
                mean.iter_mut()
                    .zip(embed(&tokens, head))
                    .for_each(|(m, v)| *m += v);
            }
            unit(mean)
        };
        set.prompts.by_class.iter().map(class).collect()
    };
    let (z_classes, h_classes) = (classes("z"), classes("h"));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for (score, w) in scores
        .heads
        .iter()
        .zip([1.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    {
        let (mut top1, mut top5) = (0, 0);
        for i in 0..SAMPLES {
            let mut pixels = vec![0.0; 3 * SIDE * SIDE];
            set.samples.pixels(i, SIDE, &mut pixels).expect("pixels");
            let pixels: Vec<f64> = pixels.into_iter().map(f64::from).collect();
            let (z, h) = (embed(&pixels, "z"), embed(&pixels, "h"));
            let mixed: Vec<f64> = (0..CLASSES)
                .map(|c| w * dot(&z, &z_classes[c]) + (1.0 - w) * dot(&h, &h_classes[c]))
                .collect();
            let own = mixed[set.samples.target(i)];
            let better = mixed.iter().filter(|&&s| s > own).count();
            top1 += i64::from(better == 0);
            top5 += i64::from(better < 5);
        }
        assert_eq!(
            (score.tally.top1_count(), score.tally.top5),
            (top1, top5),
            "{:?}",
            score.head
        );
    }
}

#[test]
fn a_model_without_h_has_one_head() {
    let model = Linear {
        has_h: false,
        scale: 1.0,
    };
    let scores = run(&model, &usual(), &SETTINGS, &Shard::alone()).expect("scores");
    assert_eq!(
        scores.heads.iter().map(|s| s.head).collect::<Vec<_>>(),
        [Head::Z]
    );
    assert_eq!(
        scores.heads[0],
        run(&MODEL, &usual(), &SETTINGS, &Shard::alone())
            .expect("scores")
            .heads[0]
    );
}

#[test]
fn embeddings_that_are_not_finite_give_no_score() {
    for scale in [f64::NAN, 0.0] {
        let model = Linear { has_h: true, scale };
        let error = run(&model, &usual(), &SETTINGS, &Shard::alone()).expect_err("no score");
        assert_eq!(error.kind(), ExitKind::NotFinite);
    }
    let classifier = |set: &EvalSet| {
        Classifier::new(
            &MODEL,
            &set.prompts,
            &tokenize,
            5,
            &Shard::alone(),
            &set.name,
            &mut || CONTINUE,
        )
        .expect("classes")
    };
    let set = usual();
    let nan = Linear {
        has_h: true,
        scale: f64::NAN,
    };
    let error = score(
        &nan,
        &classifier(&set),
        &set,
        &SETTINGS,
        &Shard::alone(),
        |_, _| CONTINUE,
    );
    insta::assert_snapshot!(error.expect_err("no score").to_string(), @r"the image embeddings of head h hold NaN or infinity, so that 'synthetic' cannot be scored; the weights of this checkpoint are not usable");
}

#[test]
fn an_image_that_cannot_be_read_is_named_and_always_the_same() {
    for threads in [1, 4] {
        let set = set(
            Synthetic {
                samples: SAMPLES,
                classes: CLASSES,
                broken: vec![99, 30, 27],
            },
            Metric::Top1,
        );
        let settings = Settings {
            threads,
            ..SETTINGS
        };
        let error = run(&MODEL, &set, &settings, &Shard::alone()).expect_err("no score");
        assert_eq!(error.kind(), ExitKind::Data);
        insta::allow_duplicates! {
            insta::assert_snapshot!(error.to_string(), @r"27.jpg: this image of the evaluation set cannot be read: it is broken; replace it or remove it from the set");
        }
    }
}

#[test]
fn ranks_that_do_not_see_the_same_files_are_found_out() {
    let twice = |tensor: &Tensor| -> Result<Tensor, EncodeError> {
        // What two ranks would sum that both believe to be the first.
        Ok(if tensor.kind() == Kind::Int64 {
            tensor * 2
        } else {
            tensor.copy()
        })
    };
    let error = run(&MODEL, &usual(), &SETTINGS, &Shard::new(0, 1, &twice)).expect_err("no score");
    insta::assert_snapshot!(error.to_string(), @r"the ranks scored 202 samples of 'synthetic', which has 101: they do not see the same files; check that every node mounts the same data");
}

#[test]
fn progress_ends_at_this_ranks_images() {
    let set = usual();
    let classifier = Classifier::new(
        &MODEL,
        &set.prompts,
        &tokenize,
        5,
        &Shard::alone(),
        &set.name,
        &mut || CONTINUE,
    )
    .expect("classes");
    let mut seen = Vec::new();
    score(
        &MODEL,
        &classifier,
        &set,
        &SETTINGS,
        &Shard::alone(),
        |done, total| {
            seen.push((done, total));
            CONTINUE
        },
    )
    .expect("scores");
    assert_eq!(seen.len(), 13);
    assert_eq!((seen[0], seen[12]), ((8, 101), (101, 101)));
}

#[test]
fn an_evaluation_that_is_broken_off_gives_no_score() {
    let set = usual();
    let shard = Shard::alone();
    let classifier = Classifier::new(
        &MODEL,
        &set.prompts,
        &tokenize,
        5,
        &shard,
        &set.name,
        &mut || CONTINUE,
    )
    .expect("classes");
    let mut batches = 0;
    let error = score(&MODEL, &classifier, &set, &SETTINGS, &shard, |_, _| {
        batches += 1;
        ControlFlow::Break(())
    });
    assert_eq!(batches, 1);
    assert!(
        matches!(error, Err(EvalError::SampleCount { seen: 8, .. })),
        "{error:?}"
    );
}

#[test]
fn results_are_a_table_and_json() {
    let set = usual();
    let scores = run(&MODEL, &set, &SETTINGS, &Shard::alone()).expect("scores");
    let result = ZeroShot::new(&set, 1200, "step-00001200", &scores);
    assert_eq!(result.file_name(), "synthetic-step-1200.json");
    insta::assert_snapshot!(result.table(), @r"
    synthetic: 101 images, 7 classes, chance 14.286 %, step 1200
      head       top-1 %   top-5 %
      z            31.68     87.13
      h            33.66     85.15
      zh_0.1       34.65     86.14
      zh_0.2       36.63     90.10
      zh_0.3       37.62     91.09
      zh_0.4       37.62     93.07
      zh_0.5       37.62     93.07
      zh_0.6       33.66     91.09
      zh_0.7       34.65     90.10
      zh_0.8       32.67     89.11
      zh_0.9       32.67     89.11
    ");
    let mut short = result.clone();
    short.heads.truncate(1);
    insta::assert_snapshot!(serde_json::to_string_pretty(&short).expect("JSON"), @r#"
    {
      "dataset": "synthetic",
      "step": 1200,
      "checkpoint": "step-00001200",
      "classes": 7,
      "samples": 101,
      "chance": 14.285714285714286,
      "metric": "top1",
      "matched": "sorted_order",
      "absent_classes": 0,
      "heads": [
        {
          "head": "z",
          "top1": 31.683168316831683,
          "top5": 87.12871287128714,
          "mean_per_class": 31.77156490126415,
          "top1_count": 32,
          "top5_count": 88
        }
      ]
    }
    "#);
    let text = serde_json::to_string(&result).expect("JSON");
    assert_eq!(
        serde_json::from_str::<ZeroShot>(&text).expect("a result"),
        result
    );
    assert_eq!(
        result.head(Head::Mix(5)).map(|h| h.head.as_str()),
        Some("zh_0.5")
    );
    let by_class = ZeroShot {
        metric: Metric::MeanPerClass,
        absent_classes: 2,
        ..short
    };
    insta::assert_snapshot!(by_class.table(), @r"
    synthetic: 101 images, 7 classes, chance 14.286 %, step 1200
      head       top-1 %   top-5 % per class %
      z            31.68     87.13       31.77
      per class is the mean over the 5 classes that have images
    ");
}
