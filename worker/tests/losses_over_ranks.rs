//! Every child's loss over 1, 2 and 4 ranks: over Gloo as within one process, against one process with the
//! joined batch, and in half precision.

use std::sync::Mutex;
use std::time::Duration;

use rocket_common::experiment::{BarlipGrad, Child, LossAvgOrSum, Train};
use rocket_worker::loss::{Alone, LossOutput, Objective, Ranks, Together};
use rocket_worker::model::{ChildEmbeddings, Embeddings, Views};
use rocket_worker::parity::hash_values;
use rocket_worker::train::ranks::GroupRanks;
use tch::{Device, Kind, TchError, Tensor};
use tch_distributed::{GlooOptions, ProcessGroup, Store, autocast};

/// Samples per rank.
const B: i64 = 3;
/// Width of every embedding, and number of prototypes.
const E: i64 = 8;
const AUGS: usize = 2;

/// A child, and whether a momentum encoder gives its targets.
const CASES: [(Child, bool); 8] = [
    (Child::Clip, false),
    (Child::Cl2l, false),
    (Child::Barlip, false),
    (Child::Siamlip, false),
    (Child::Siamlip, true),
    (Child::Swalip, false),
    (Child::Swalipv1, false),
    (Child::Swalipv1, true),
];

/// Embeddings of a batch, as leaves under their names.
struct Leaves(Vec<Tensor>);

/// Embeddings that every rank has rows of: z and h, then the child's v, p and targets.
const EMBEDDINGS: usize = 4 * (2 + 2 * AUGS);

impl Leaves {
    /// The rows of all ranks.
    fn joined(ranks: usize) -> Self {
        let place = (Kind::Double, Device::Cpu);
        let rows = ranks as i64 * B;
        let values = |i: usize| {
            let values: Vec<f64> = hash_values(&format!("leaf {i}"), (rows * E) as usize).collect();
            Tensor::from_slice(&values).view([rows, E])
        };
        let leaves = (0..EMBEDDINGS)
            .map(values)
            .chain([14.0, 9.0, 6.0].map(|scale| Tensor::full([0i64; 0], scale, place)))
            .map(|leaf| leaf.set_requires_grad(true));
        Self(leaves.collect())
    }

    /// The rows of one rank, as leaves of their own.
    fn of_rank(&self, rank: usize) -> Self {
        let leaves = self.0.iter().map(|all| {
            let rows = match all.dim() {
                0 => all.detach(),
                _ => all.detach().narrow(0, rank as i64 * B, B),
            };
            rows.copy().set_requires_grad(true)
        });
        Self(leaves.collect())
    }

    fn views(&self, which: usize) -> Views {
        let at = |i: usize| self.0[which * (2 + 2 * AUGS) + i].shallow_clone();
        Views {
            image: at(0),
            text: at(1),
            image_local: (0..AUGS).map(|i| at(2 + i)).collect(),
            text_local: (0..AUGS).map(|i| at(2 + AUGS + i)).collect(),
        }
    }

    fn embeddings(&self, (child, momentum): (Child, bool)) -> Embeddings {
        let z = self.views(0);
        let one_view = matches!(child, Child::Clip | Child::Swalipv1);
        let local = |views: Vec<Tensor>| if one_view { Vec::new() } else { views };
        Embeddings {
            feats_image: Tensor::new(),
            feats_text: Tensor::new(),
            feats_image_local: Vec::new(),
            feats_text_local: Vec::new(),
            z_image: z.image,
            z_text: z.text,
            h_image_local: local(z.image_local),
            h_text_local: local(z.text_local),
            logit_scale: self.0[EMBEDDINGS].shallow_clone(),
            h_logit_scale: self.0[EMBEDDINGS + 1].shallow_clone(),
            child: match child {
                Child::Clip | Child::Cl2l | Child::Swalip => ChildEmbeddings::None,
                Child::Barlip => ChildEmbeddings::Barlip { v: self.views(1) },
                Child::Siamlip => ChildEmbeddings::Siamlip {
                    v: self.views(1),
                    p: self.views(2),
                    targets: momentum.then(|| self.views(3)),
                },
                Child::Swalipv1 => {
                    // Cosines.
                    let (p, targets) = (self.views(2), self.views(3));
                    ChildEmbeddings::Prototypes {
                        image: p.image.tanh(),
                        text: p.text.tanh(),
                        targets: momentum.then(|| (targets.image.tanh(), targets.text.tanh())),
                        logit_scale: self.0[EMBEDDINGS + 2].shallow_clone(),
                    }
                }
            },
        }
    }

    /// Gradients; 0 where none came.
    fn grads(&self) -> Vec<Tensor> {
        let grad = |leaf: &Tensor| {
            let grad = leaf.grad();
            if grad.defined() {
                grad
            } else {
                leaf.zeros_like()
            }
        };
        self.0.iter().map(grad).collect()
    }
}

fn options(child: Child, true_gradients: bool) -> Train {
    Train {
        gather_with_grad: true_gradients,
        barlip_grad: if true_gradients {
            BarlipGrad::Corrected
        } else {
            BarlipGrad::Reference
        },
        label_smoothing: if child == Child::Swalip { 0.0 } else { 0.1 },
        loss_avg_or_sum: LossAvgOrSum::Sum,
        ..Train::default()
    }
}

/// What a rank computed, in a form that can be compared to the bit.
#[derive(Debug, Clone, PartialEq)]
struct Computed {
    terms: Vec<(String, f64)>,
    grads: Vec<Vec<f64>>,
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.detach().to_kind(Kind::Double).reshape([-1]);
    Vec::<f64>::try_from(tensor).expect("values")
}

impl Computed {
    fn of(output: &LossOutput, leaves: &Leaves) -> Self {
        let terms = output.terms.iter();
        Self {
            terms: terms
                .map(|(n, t)| (n.clone(), t.double_value(&[])))
                .collect(),
            grads: leaves.grads().iter().map(values).collect(),
        }
    }
}

/// Runs a case on every rank of `size` at once, each a thread, with the ranks that `ranks` makes.
fn on_ranks<R: Ranks>(
    case: (Child, bool),
    size: usize,
    true_gradients: bool,
    ranks: impl Fn(usize) -> R + Sync,
) -> Vec<Computed> {
    let joined = Leaves::joined(size);
    let leaves: Vec<Leaves> = (0..size).map(|rank| joined.of_rank(rank)).collect();
    let objective = Objective::new(case.0, &options(case.0, true_gradients));
    let one = |rank: usize, leaves: Leaves| {
        let ranks = ranks(rank);
        let output = objective
            .compute(&leaves.embeddings(case), &ranks)
            .expect("a loss");
        output.total.backward();
        Computed::of(&output, &leaves)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .zip(leaves)
            .map(|(rank, leaves)| {
                let one = &one;
                scope.spawn(move || one(rank, leaves))
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().expect("a rank"))
            .collect()
    })
}

/// A rank of a Gloo group within this process.
#[derive(Debug)]
struct Gloo {
    group: ProcessGroup,
    _store: Store,
}

impl Ranks for Gloo {
    fn rank(&self) -> usize {
        GroupRanks(&self.group).rank()
    }
    fn size(&self) -> usize {
        GroupRanks(&self.group).size()
    }
    fn gather(&self, tensor: &Tensor, grad: bool) -> Result<Tensor, TchError> {
        GroupRanks(&self.group).gather(tensor, grad)
    }
    fn sum(&self, tensor: &Tensor, grad: bool) -> Result<Tensor, TchError> {
        GroupRanks(&self.group).sum(tensor, grad)
    }
}

fn over_gloo(case: (Child, bool), size: usize, true_gradients: bool) -> Vec<Computed> {
    let patience = Duration::from_secs(60);
    let server = Store::tcp("127.0.0.1", 0, size, true, patience).expect("a store");
    let port = server.port();
    let server = Mutex::new(Some(server));
    on_ranks(case, size, true_gradients, |rank| {
        let store = match rank {
            0 => server.lock().expect("a lock").take().expect("one rank 0"),
            _ => Store::tcp("127.0.0.1", port, size, false, patience).expect("a store"),
        };
        let options = GlooOptions::new(patience).interface("lo");
        let group = ProcessGroup::gloo(&store, rank, size, &options).expect("a group");
        Gloo {
            group,
            _store: store,
        }
    })
}

fn joined(case: (Child, bool), size: usize) -> Computed {
    let leaves = Leaves::joined(size);
    let objective = Objective::new(case.0, &options(case.0, true));
    let output = objective
        .compute(&leaves.embeddings(case), &Alone)
        .expect("a loss");
    output.total.backward();
    Computed::of(&output, &leaves)
}

#[track_caller]
fn close(got: f64, want: f64, what: &str) {
    let tolerance = 1e-12 * want.abs().max(1.0);
    assert!(
        (got - want).abs() <= tolerance,
        "{what}: {got}, want {want}"
    );
}

/// With full gradients, averaged over ranks, W ranks are one process with the joined batch.
#[test]
fn true_gradients_over_ranks_are_those_of_the_joined_batch() {
    tch::set_num_threads(1);
    for case in CASES {
        for size in [1, 2, 4] {
            let ranks = over_gloo(case, size, true);
            let joined = joined(case, size);
            for (i, (name, want)) in joined.terms.iter().enumerate() {
                let mean = ranks.iter().map(|rank| rank.terms[i].1).sum::<f64>() / size as f64;
                close(mean, *want, &format!("{case:?} on {size} ranks: {name}"));
            }
            for (i, want) in joined.grads.iter().enumerate() {
                let got: Vec<f64> = if i < EMBEDDINGS {
                    ranks
                        .iter()
                        .flat_map(|rank| rank.grads[i].clone())
                        .collect()
                } else {
                    vec![ranks.iter().map(|rank| rank.grads[i][0]).sum()]
                };
                for (got, want) in got.iter().zip(want) {
                    let what = format!("{case:?} on {size} ranks: gradient {i}");
                    close(got / size as f64, *want, &what);
                }
            }
        }
    }
}

/// By default nothing flows back through what was gathered or summed: the gradient of a rank is that of
/// its own rows, with the others' as constants. Threads without a network compute the same to rounding.
#[test]
fn default_gradients_are_those_of_the_own_rows() {
    tch::set_num_threads(1);
    for case in CASES {
        for size in [1, 2, 4] {
            let gloo = over_gloo(case, size, false);
            let together = Together::new(size);
            let threads = on_ranks(case, size, false, |rank| together[rank].clone());
            for (rank, (gloo, threads)) in gloo.iter().zip(&threads).enumerate() {
                let what = format!("{case:?}, rank {rank} of {size}");
                let names =
                    |it: &Computed| it.terms.iter().map(|t| t.0.clone()).collect::<Vec<_>>();
                assert_eq!(names(gloo), names(threads), "{what}");
                for (a, b) in gloo.terms.iter().zip(&threads.terms) {
                    close(a.1, b.1, &format!("{what}: {}", a.0));
                }
                for (a, b) in gloo
                    .grads
                    .iter()
                    .flatten()
                    .zip(threads.grads.iter().flatten())
                {
                    close(*a, *b, &what);
                }
            }
            if size > 1 {
                let full = over_gloo(case, size, true);
                let differ = full.iter().zip(&gloo).any(|(a, b)| a.grads != b.grads);
                assert!(differ, "{case:?}: the option does nothing on {size} ranks");
            }
        }
    }
}

/// CLIP on a rank by the formula itself: gathered rows are constants.
#[test]
fn clips_default_gradient_is_the_formulas() {
    let size = 4;
    let all = Leaves::joined(size);
    let ranks = over_gloo((Child::Clip, false), size, false);
    for (rank, computed) in ranks.iter().enumerate() {
        let own = all.of_rank(rank);
        let unit = |x: &Tensor| x / x.norm_scalaropt_dim(2, [1i64].as_slice(), true);
        let labels = Tensor::arange(B, (Kind::Int64, Device::Cpu)) + rank as i64 * B;
        let direction = |own: &Tensor, other: &Tensor| {
            let logits: Tensor = 14.0 * unit(own).matmul(&unit(&other.detach()).tr());
            logits.log_softmax(-1, Kind::Double).nll_loss(&labels)
        };
        // `loss_avg_or_sum: sum`, which these tests set, doubles only what has augmented views.
        let loss = (direction(&own.0[0], &all.0[1]) + direction(&own.0[1], &all.0[0])) / 2.0;
        loss.backward();
        close(computed.terms[0].1, loss.double_value(&[]), "loss");
        for i in 0..2 {
            for (got, want) in computed.grads[i].iter().zip(values(&own.0[i].grad())) {
                close(*got, want, &format!("rank {rank}: gradient {i}"));
            }
        }
    }
}

/// The reference's BarLIP gradient, averaged over W ranks, is 1/W of the true one.
#[test]
fn barlips_default_gradient_is_a_wth_of_the_true_one() {
    let case = (Child::Barlip, false);
    for size in [2, 4] {
        let (by_default, full) = (over_gloo(case, size, false), over_gloo(case, size, true));
        // Embeddings of the child only: z and h have no part in it.
        for i in 2 + 2 * AUGS..2 * (2 + 2 * AUGS) {
            for (a, b) in by_default.iter().zip(&full) {
                for (a, b) in a.grads[i].iter().zip(&b.grads[i]) {
                    close(a * size as f64, *b, "gradient");
                }
            }
        }
    }
}

/// Counts collectives.
#[derive(Debug, Default)]
struct Counting {
    gathers: Mutex<usize>,
    sums: Mutex<usize>,
}

impl Ranks for Counting {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        2
    }
    fn gather(&self, tensor: &Tensor, _: bool) -> Result<Tensor, TchError> {
        *self.gathers.lock().expect("a lock") += 1;
        Tensor::f_stack(&[tensor, tensor], 0)
    }
    fn sum(&self, tensor: &Tensor, _: bool) -> Result<Tensor, TchError> {
        *self.sums.lock().expect("a lock") += 1;
        tensor.f_mul_scalar(2.0)
    }
}

#[test]
fn collectives_do_not_grow_with_the_pairs_of_views() {
    let count = |child: Child| {
        let ranks = Counting::default();
        let objective = Objective::new(child, &options(child, false));
        let leaves = Leaves::joined(1);
        objective
            .compute(&leaves.embeddings((child, false)), &ranks)
            .expect("a loss");
        (
            *ranks.gathers.lock().expect("a lock"),
            *ranks.sums.lock().expect("a lock"),
        )
    };
    assert_eq!(count(Child::Clip), (1, 0));
    assert_eq!(count(Child::Cl2l), (1, 0));
    assert_eq!(count(Child::Siamlip), (1, 0));
    // One cross-correlation per pair, each large.
    assert_eq!(count(Child::Barlip), (1, 5));
    // 1 + sk_iters for all eight problems, or both.
    assert_eq!(count(Child::Swalip), (1, 4));
    assert_eq!(count(Child::Swalipv1), (1, 4));
}

/// Half-precision embeddings, and an autocast around the loss, change no bit of what float32 gives.
#[test]
fn losses_compute_in_float32_whatever_is_around() {
    for case in CASES {
        let objective = Objective::new(case.0, &options(case.0, false));
        let compute = |kind: Kind, around: Kind| {
            let leaves = Leaves::joined(1);
            let half = leaves
                .0
                .iter()
                .map(|leaf| leaf.to_kind(Kind::BFloat16).to_kind(kind));
            let leaves = Leaves(half.collect());
            let output = autocast(Device::Cpu, around, || {
                objective
                    .compute(&leaves.embeddings(case), &Alone)
                    .expect("a loss")
            });
            let output = output.expect("autocast");
            assert_eq!(output.total.kind(), Kind::Float, "{case:?}");
            output.total.double_value(&[])
        };
        let plain = compute(Kind::Float, Kind::Float);
        assert!(plain.is_finite());
        assert_eq!(compute(Kind::Float, Kind::BFloat16), plain, "{case:?}");
        // Cosines of prototypes are what the model makes of its embeddings: they have half's rounding.
        if case.0 != Child::Swalipv1 {
            assert_eq!(compute(Kind::BFloat16, Kind::BFloat16), plain, "{case:?}");
        }
    }
}

#[test]
fn embeddings_of_another_child_are_refused() {
    let leaves = Leaves::joined(1);
    let swalip = Objective::new(Child::Swalip, &Train::default());
    let mut one_view = leaves.embeddings((Child::Swalip, false));
    one_view.h_image_local.truncate(1);
    one_view.h_text_local.truncate(1);
    let error = swalip.compute(&one_view, &Alone).expect_err("one view");
    assert!(
        error
            .to_string()
            .contains("two augmented views; there are 1"),
        "{error}"
    );
    let barlip = Objective::new(Child::Barlip, &Train::default());
    let error = barlip.compute(&leaves.embeddings((Child::Cl2l, false)), &Alone);
    assert!(error.expect_err("no child").to_string().contains("Barlip"));
}
