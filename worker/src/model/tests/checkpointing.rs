//! Activation checkpointing, and steps that are split at the features.

use rocket_common::experiment::{ConvNextArch, ConvNextDims};

use super::*;

pub(super) fn convnext() -> Vision {
    Vision::ConvNext(ConvNextDims {
        arch: ConvNextArch::ConvNext,
        depths: [1, 2, 2, 1],
        widths: [8, 12, 16, 24],
        image_size: SIDE,
    })
}

/// However it is asked for, recomputing gives the same gradients to the bit, and batch statistics move
/// once.
#[test]
fn checkpointing_changes_no_bit_and_counts_a_batch_once() {
    let _turn = turn();
    for vision in [Vision::Named("R50".to_owned()), vit(), convnext()] {
        let spec = spec(Base::Cl2l, Child::Cl2l, vision.clone(), true);
        let model = |options: Options| Model::new(&spec, &options).unwrap();
        let batch = batch(2, Kind::Float);
        let plain = model(options(2));
        let (want, wanted) = gradients(&plain, &batch);
        let on = Options {
            checkpoint_grad: true,
            ..options(2)
        };
        let memory = |bytes: u64| Options {
            checkpoint_memory: Some(bytes),
            ..on.clone()
        };
        let all = model(memory(u64::MAX))
            .checkpoint_report(&batch)
            .unwrap()
            .unwrap();
        assert_eq!(all.recomputed, 0);
        let ways = [
            on.clone(),
            Options {
                checkpoint_segments: Some(2),
                ..on.clone()
            },
            memory(all.bytes * 2 / 3),
            memory(1),
        ];
        for (way, options) in ways.into_iter().enumerate() {
            let recomputed = model(options);
            if let Some(report) = recomputed.checkpoint_report(&batch).unwrap() {
                let some = 0 < report.recomputed && report.recomputed < report.blocks;
                assert_eq!(some, way == 2, "{vision:?} {report:?}");
            }
            let (got, given) = gradients(&recomputed, &batch);
            assert_eq!(want.to_bits(), got.to_bits());
            for ((name, want), (_, got)) in wanted.iter().zip(&given) {
                assert_eq!(want, got, "{vision:?} {way} {name}");
            }
            let pairs = plain
                .registry()
                .buffers()
                .zip(recomputed.registry().buffers());
            for (want, got) in pairs {
                assert_eq!(want.tensor, got.tensor, "{way} {}", want.name);
            }
        }
    }
}

/// Two backward passes into the same gradients: only the order of sums may differ.
#[test]
fn gradients_of_two_micro_batches_differ_by_rounding_alone() {
    let _turn = turn();
    for vision in [Vision::Named("R50".to_owned()), vit(), convnext()] {
        let spec = spec(Base::Cl2l, Child::Cl2l, vision.clone(), true);
        let [wanted, given] = [false, true].map(|checkpoint_grad| {
            let options = Options {
                checkpoint_grad,
                checkpoint_segments: Some(100),
                ..options(2)
            };
            let model = Model::new(&spec, &options).unwrap();
            let batch = batch(2, Kind::Float);
            gradients(&model, &batch);
            gradients(&model, &batch).1
        });
        for ((name, want), (_, got)) in wanted.iter().zip(&given) {
            let far = (want - got).norm().double_value(&[]);
            let size = want.norm().double_value(&[]);
            assert!(
                far <= 1e-6 * size.max(1e-7),
                "{vision:?} {name}: {far} of {size}"
            );
        }
    }
}

#[test]
fn features_again_are_the_same_and_leave_the_statistics_alone() {
    let _turn = turn();
    let spec = spec(
        Base::Cl2l,
        Child::Cl2l,
        Vision::Named("R50".to_owned()),
        true,
    );
    let model = Model::new(&spec, &options(1)).unwrap();
    let batch = batch(1, Kind::Float);
    let first = model.features(&batch, true).unwrap();
    let hash = model.registry().hash().unwrap();
    let again = model.features_again(&batch).unwrap();
    assert_eq!(model.registry().hash().unwrap(), hash);
    for (first, again) in first.tensors().into_iter().zip(again.tensors()) {
        assert_eq!(first, again);
    }
}

/// Cached features (arXiv 2101.06983): the gradients of the whole batch, one micro-batch in memory.
#[test]
fn micro_batches_with_cached_features_give_the_gradients_of_the_whole_batch() {
    let _turn = turn();
    for (vision, child) in [(vit(), Child::Siamlip), (convnext(), Child::Barlip)] {
        let spec = children::small(Spec {
            detach_proj: true,
            ..spec(Base::Cl2l, child, vision, true)
        });
        let [whole, split] = [(); 2].map(|()| {
            let double = Options {
                kind: Kind::Double,
                ..options(2)
            };
            Model::new(&spec, &double).unwrap()
        });
        let batch = batch(2, Kind::Double);
        let (want, wanted) = gradients(&whole, &batch);
        let part = |first: i64| Batch {
            image_global: batch.image_global.narrow(0, first, 2),
            images_local: batch
                .images_local
                .iter()
                .map(|x| x.narrow(0, first, 2))
                .collect(),
            tokens: batch.tokens.narrow(0, first, 2),
        };
        let parts = [part(0), part(2)];
        let cached = tch::no_grad(|| {
            parts
                .each_ref()
                .map(|part| split.features(part, true).unwrap())
        });
        let leaves = Features::cat(&cached).unwrap().leaves().unwrap();
        let output = objective(split.project(&leaves, true).unwrap());
        output.total.backward();
        assert!((output.total.double_value(&[]) - want).abs() < 1e-12);
        for (part, first) in parts.iter().zip([0, 2]) {
            let feats = split.features_again(part).unwrap();
            feats.surrogate(&leaves, first).unwrap().backward();
        }
        for (name, want) in wanted {
            let got = split.registry().get(&name).expect("a tensor").grad();
            let far = (&want - got).norm().double_value(&[]);
            let size = want.norm().double_value(&[]);
            assert!(far <= 1e-9 * size.max(1e-4), "{name}: {far} of {size}");
        }
    }
}
