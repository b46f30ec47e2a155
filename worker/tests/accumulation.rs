//! Gradient accumulation: `exact` gives the gradients of the batch that is not accumulated, `micro` the
//! mean of its micro-batches' gradients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocket_common::experiment::{Accumulate, Experiment, parse};
use rocket_worker::model::Batch;
use rocket_worker::parity::hash_values;
use rocket_worker::train::step::Trainer;
use tch::{Device, Tensor};
use tch_distributed::{GlooOptions, ProcessGroup, Store};

/// Samples of a step on one rank.
const SAMPLES: i64 = 8;
const SIDE: i64 = 16;

fn experiment(overrides: &[&str]) -> Experiment {
    let text = "
name: accumulation
model:
  base: CL2L
  child: CL2L
  vision: {arch: vit, width: 32, depth: 2, heads: 2, patch: 8, image_size: 16}
  embed_dim: 16
  transformer_width: 32
  transformer_layers: 2
  transformer_heads: 2
  clip_hidden_dim: 48
data: {dataset: cc3m, root: r, metadata: m}
train: {gather_with_grad: true}
optim: {warmup_epochs: 0}
";
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    parse("exp.yaml", text, &overrides).unwrap_or_else(|all| panic!("{all:?}"))
}

/// A step's samples of one rank, by formula: torch's generator is the whole process's.
fn samples(rank: usize) -> Batch {
    let image = |view: &str| {
        let name = format!("r{rank}/{view}");
        let numel = (SAMPLES * 3 * SIDE * SIDE) as usize;
        let values: Vec<f32> = hash_values(&name, numel).map(|v| v as f32).collect();
        Tensor::from_slice(&values).view([SAMPLES, 3, SIDE, SIDE])
    };
    let name = format!("r{rank}/tokens");
    let words = hash_values(&name, (SAMPLES * 3 * 77) as usize);
    let mut tokens: Vec<i64> = words.map(|v| 1 + ((v + 1.0) * 24000.0) as i64).collect();
    for (row, caption) in tokens.chunks_mut(77).enumerate() {
        let length = 3 + (5 * row) % 11;
        caption[length] = 49407;
        caption[length + 1..].fill(0);
    }
    Batch {
        image_global: image("image_global"),
        images_local: vec![image("image_local_0"), image("image_local_1")],
        tokens: Tensor::from_slice(&tokens).view([SAMPLES, 3, 77]),
    }
}

fn part(batch: &Batch, first: i64, count: i64) -> Batch {
    let rows = |t: &Tensor| t.narrow(0, first, count).contiguous();
    Batch {
        image_global: rows(&batch.image_global),
        images_local: batch.images_local.iter().map(rows).collect(),
        tokens: rows(&batch.tokens),
    }
}

type Gradients = BTreeMap<String, Tensor>;

/// What trains with a step cut into `update_freq` micro-batches.
fn build(
    group: &Arc<ProcessGroup>,
    overrides: &[&str],
    update_freq: i64,
    accumulate: Accumulate,
) -> Trainer {
    let mut experiment = experiment(overrides);
    experiment.train.update_freq = update_freq as u64;
    experiment.train.accumulate = accumulate;
    Trainer::build(&experiment, Device::Cpu, group).expect("built")
}

/// Gradients of one step, its loss, and the buffers after it.
fn run(
    trainer: &mut Trainer,
    group: &Arc<ProcessGroup>,
    update_freq: i64,
) -> (Gradients, f64, Gradients) {
    let batch = samples(group.rank());
    let count = SAMPLES / update_freq;
    let mut first = 0;
    let backward = trainer
        .backward(group, 0, || {
            let part = part(&batch, first, count);
            first += count;
            Ok(part)
        })
        .expect("backward");
    assert!(backward.is_finite());
    let registry = trainer.model.registry();
    let gradients = registry
        .trainable()
        .map(|entry| (entry.name.clone(), entry.tensor.grad().copy()))
        .collect();
    let buffers = registry
        .buffers()
        .map(|entry| (entry.name.clone(), entry.tensor.copy()))
        .collect();
    (gradients, backward.means()[0], buffers)
}

/// One rank's step.
fn step(
    group: &Arc<ProcessGroup>,
    overrides: &[&str],
    update_freq: i64,
    accumulate: Accumulate,
) -> (Gradients, f64, Gradients) {
    let mut trainer = build(group, overrides, update_freq, accumulate);
    run(&mut trainer, group, update_freq)
}

/// Torch's generator is the whole process's: first values of one test's model must not be drawn while
/// another test seeds it.
static ONE: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> Arc<ProcessGroup> {
    let timeout = Duration::from_secs(30);
    let store = Store::tcp("127.0.0.1", 0, 1, true, timeout).expect("a store");
    let options = GlooOptions::new(timeout).interface("lo");
    Arc::new(ProcessGroup::gloo(&store, 0, 1, &options).expect("a group"))
}

/// Largest distance of two gradients, relative to the norm of the first or, where that is tiny, of all. The
/// gradient of a bias in front of a batch norm is 0, and what is there of it is rounding: it is left out.
fn worst(wanted: &Gradients, found: &Gradients) -> (f64, String) {
    let norm = |t: &Tensor| f64::try_from(t.norm()).expect("a number");
    let all = wanted.values().map(|t| norm(t).powi(2)).sum::<f64>().sqrt();
    wanted
        .iter()
        .filter(|(_, wanted)| norm(wanted) > 1e-5 * all)
        .map(|(name, wanted)| {
            let apart = norm(&(wanted - &found[name]));
            (apart / norm(wanted).max(1e-3 * all), name.clone())
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .expect("gradients")
}

#[track_caller]
fn exact_equals_the_whole(overrides: &[&str]) {
    let _one = one_at_a_time();
    tch::set_num_threads(1);
    let group = alone();
    let (whole, loss, _) = step(&group, overrides, 1, Accumulate::Micro);
    for update_freq in [2, 4] {
        let (exact, exact_loss, _) = step(&group, overrides, update_freq, Accumulate::Exact);
        let (apart, name) = worst(&whole, &exact);
        assert!(
            apart < 1e-5,
            "{update_freq} micro-batches: {name} is {apart:e} apart"
        );
        assert!(
            (loss - exact_loss).abs() < 1e-5 * loss.abs(),
            "{loss} {exact_loss}"
        );
        let (micro, ..) = step(&group, overrides, update_freq, Accumulate::Micro);
        let (apart, _) = worst(&whole, &micro);
        assert!(
            apart > 1e-2,
            "the negatives of a micro-batch make no difference"
        );
    }
}

#[test]
fn exact_without_batch_norm() {
    exact_equals_the_whole(&[
        "model.separate_proj=true",
        "model.cl2l_img_proj_type=linear",
        "model.cl2l_txt_proj_type=linear",
    ]);
}

/// The heads see the whole step, so their batch norms do too.
#[test]
fn exact_with_batch_norm_in_the_heads() {
    exact_equals_the_whole(&["model.clip_proj_type=mlp"]);
}

#[test]
fn exact_with_recomputed_activations() {
    exact_equals_the_whole(&["train.checkpoint_grad=true"]);
    exact_equals_the_whole(&[
        "train.checkpoint_grad=true",
        "train.checkpoint_segments=100",
    ]);
}

#[test]
fn exact_for_children() {
    exact_equals_the_whole(&[
        "model.child=BARLIP",
        "model.barlip_proj_dim=32",
        "model.barlip_hidden_dim=24",
    ]);
    exact_equals_the_whole(&[
        "model.child=SIAMLIP",
        "model.momentum=true",
        "model.siamlip_proj_dim=16",
        "model.siamlip_hidden_dim=24",
    ]);
    exact_equals_the_whole(&["model.child=SWALIP"]);
}

/// A batch norm in a tower sees its micro-batch: the gradients differ, and its statistics move once per
/// micro-batch, not twice.
#[test]
fn batch_norm_in_a_tower_is_what_exact_cannot_reach() {
    let _one = one_at_a_time();
    tch::set_num_threads(2);
    let group = alone();
    let overrides = ["model.vision=R50", "augment.num_augs=2"];
    let (_, _, buffers) = step(&group, &overrides, 2, Accumulate::Exact);
    let (_, _, micro) = step(&group, &overrides, 2, Accumulate::Micro);
    let name = "visual.bn1.num_batches_tracked";
    // Three views in each of two micro-batches.
    assert_eq!(i64::try_from(&buffers[name]).expect("a count"), 6);
    for (name, value) in micro.iter().filter(|(name, _)| name.starts_with("visual.")) {
        assert!(value.equal(&buffers[name]), "{name}");
    }
}

/// Two ranks, each with half of the samples of the step.
#[test]
fn exact_over_two_ranks() {
    let _one = one_at_a_time();
    let timeout = Duration::from_secs(30);
    let server = Store::tcp("127.0.0.1", 0, 2, true, timeout).expect("a store");
    let port = server.port();
    let overrides = ["model.clip_proj_type=mlp"];
    let ranks: Vec<_> = (0..2)
        .map(|rank| {
            std::thread::spawn(move || {
                tch::set_num_threads(1);
                let store = Store::tcp("127.0.0.1", port, 2, false, timeout).expect("a store");
                let options = GlooOptions::new(timeout).interface("lo");
                let group = ProcessGroup::gloo(&store, rank, 2, &options).expect("a group");
                let group = Arc::new(group);
                // Both before a step: steps seed the generator that both ranks share here.
                let mut whole = build(&group, &overrides, 1, Accumulate::Micro);
                let mut exact = build(&group, &overrides, 4, Accumulate::Exact);
                group.barrier().expect("a peer");
                let (whole, ..) = run(&mut whole, &group, 1);
                let (exact, ..) = run(&mut exact, &group, 4);
                worst(&whole, &exact)
            })
        })
        .collect();
    for rank in ranks {
        let (apart, name) = rank.join().expect("no panic");
        assert!(apart < 1e-5, "{name} is {apart:e} apart");
    }
    drop(server);
}

/// Micro-batches have losses of their own, and the step's gradient is their mean.
#[test]
fn micro_is_the_mean_of_its_parts() {
    let _one = one_at_a_time();
    tch::set_num_threads(1);
    let group = alone();
    let (found, ..) = step(&group, &[], 4, Accumulate::Micro);
    let experiment = experiment(&[]);
    let mut trainer = Trainer::build(&experiment, Device::Cpu, &group).expect("built");
    let batch = samples(0);
    let mut mean: Gradients = BTreeMap::new();
    for micro in 0..4 {
        trainer
            .backward(&group, 0, || Ok(part(&batch, 2 * micro, 2)))
            .expect("backward");
        for entry in trainer.model.registry().trainable() {
            let quarter = entry.tensor.grad() / 4.0;
            let sum = match mean.remove(&entry.name) {
                Some(sum) => sum + quarter,
                None => quarter,
            };
            mean.insert(entry.name.clone(), sum);
        }
    }
    let (apart, name) = worst(&mean, &found);
    assert!(apart < 1e-5, "{name} is {apart:e} apart");
}
