//! The model on sizes that take no time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rocket_common::experiment::{
    Base, Child, Model as Spec, ProjType, Train, Vision, VitArch, VitDims,
};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::loss::{Alone, LossOutput, Objective};

mod checkpointing;
mod children;
mod groups;
mod towers;

const SIDE: i64 = 32;

/// Tests that draw from the process's generator take turns, each on one thread.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(1);
    turn
}

fn spec(base: Base, child: Child, vision: Vision, separate_proj: bool) -> Spec {
    Spec {
        base: Some(base),
        child: Some(child),
        vision: Some(vision),
        separate_proj,
        embed_dim: 16,
        transformer_layers: 3,
        transformer_width: 32,
        transformer_heads: 2,
        context_length: 20,
        vocab_size: 100,
        // Wide projectors take time to fill, and nothing here rests on their kind.
        cl2l_img_proj_type: ProjType::Linear,
        cl2l_txt_proj_type: ProjType::Linear,
        clip_hidden_dim: 24,
        ..Spec::default()
    }
}

fn vit() -> Vision {
    let arch = VitArch::Vit;
    Vision::Vit(VitDims {
        arch,
        width: 48,
        depth: 3,
        heads: 3,
        patch: 8,
        image_size: SIDE,
        hidden: None,
    })
}

fn options(num_augs: usize) -> Options {
    Options {
        num_augs,
        seed: 7,
        ..Options::default()
    }
}

/// Four samples; captions of 3 to 12 tokens, the end-of-text token once more after the end of some.
fn batch(num_augs: usize, kind: Kind) -> Batch {
    tch::manual_seed(3);
    let image = || Tensor::randn([4, 3, SIDE, SIDE], (Kind::Float, Device::Cpu)).to_kind(kind);
    let views = 1 + num_augs as i64;
    let tokens = Tensor::randint(90, [4, views, 20], (Kind::Int64, Device::Cpu));
    for row in 0..4 {
        for view in 0..views {
            let end = 3 + 2 * row + view;
            let mut row = tokens.get(row).get(view);
            let _ = row.narrow(0, end, 20 - end).fill_(0);
            let _ = row.narrow(0, end, 1).fill_(99);
            if end % 2 == 0 {
                let _ = row.narrow(0, end + 3, 1).fill_(99);
            }
            row = row.shallow_clone();
            assert_eq!(row.size1().expect("a row"), 20);
        }
    }
    let images_local = (0..num_augs).map(|_| image()).collect();
    Batch {
        image_global: image(),
        images_local,
        tokens,
    }
}

fn loss(model: &Model, batch: &Batch) -> LossOutput {
    objective(model.encode(batch, true).expect("encodes"))
}

fn objective(embeddings: Embeddings) -> LossOutput {
    let train = Train {
        label_smoothing: 0.1,
        ..Train::default()
    };
    let child = match embeddings.child {
        ChildEmbeddings::None => Child::Cl2l,
        ChildEmbeddings::Barlip { .. } => Child::Barlip,
        ChildEmbeddings::Siamlip { .. } => Child::Siamlip,
        ChildEmbeddings::Prototypes { .. } => Child::Swalipv1,
    };
    Objective::new(child, &train)
        .compute(&embeddings, &Alone)
        .expect("a loss")
}

/// Loss and gradients by name, in float64.
fn gradients(model: &Model, batch: &Batch) -> (f64, Vec<(String, Tensor)>) {
    let output = loss(model, batch);
    output.total.backward();
    let grads = model
        .registry()
        .trainable()
        .map(|entry| {
            (
                entry.name.clone(),
                entry.tensor.grad().to_kind(Kind::Double),
            )
        })
        .collect();
    (output.total.double_value(&[]), grads)
}

/// Gradients in float64 differ by rounding alone.
#[track_caller]
fn same_gradients(wanted: &[(String, Tensor)], given: &[(String, Tensor)]) {
    assert_eq!(wanted.len(), given.len());
    for ((name, want), (_, got)) in wanted.iter().zip(given) {
        let far = (want - got).norm().double_value(&[]);
        assert!(
            far <= 1e-9 * want.norm().double_value(&[]).max(1e-6),
            "{name}: {far}"
        );
    }
}

#[test]
fn cl2l_without_augmented_views_is_clip_to_the_bit() {
    let _turn = turn();
    let clip = Model::new(&spec(Base::Clip, Child::Clip, vit(), false), &options(2)).unwrap();
    for separate in [false, true] {
        let cl2l = spec(Base::Cl2l, Child::Cl2l, vit(), separate);
        let cl2l = Model::new(&cl2l, &options(0)).unwrap();
        let batch = batch(0, Kind::Float);
        let ((want, wanted), (got, given)) = (gradients(&clip, &batch), gradients(&cl2l, &batch));
        assert_eq!(want.to_bits(), got.to_bits());
        for (name, grad) in wanted {
            let ours = &given
                .iter()
                .find(|(other, _)| *other == name)
                .expect("the name")
                .1;
            assert_eq!(grad, *ours, "{name}");
        }
        clip.registry().zero_grad().unwrap();
        let unused = cl2l
            .registry()
            .parameters()
            .filter(|e| e.name.starts_with("l2l_"));
        assert!(
            unused
                .into_iter()
                .all(|entry| !entry.tensor.requires_grad())
        );
    }
}

#[test]
fn every_base_and_child_of_this_version_trains() {
    let _turn = turn();
    for base in [Base::Clip, Base::Cl2l] {
        for child in [Child::Clip, Child::Cl2l] {
            for (separate_proj, clip_proj_type) in [
                (false, ProjType::Linear),
                (true, ProjType::Linear),
                (false, ProjType::Mlp),
            ] {
                let spec = Spec {
                    clip_proj_type,
                    ..spec(base, child, vit(), separate_proj)
                };
                let model = Model::new(&spec, &options(2)).unwrap();
                let (loss, grads) = gradients(&model, &batch(model.num_augs(), Kind::Float));
                assert!(loss.is_finite());
                assert!(
                    grads.iter().all(|(_, grad)| grad.defined()),
                    "{base:?} {child:?} {clip_proj_type:?}"
                );
            }
        }
    }
}

#[test]
fn truncated_text_gives_what_full_length_does() {
    let _turn = turn();
    let spec = spec(Base::Cl2l, Child::Cl2l, vit(), false);
    let [full, short] = [false, true].map(|truncate| {
        Model::new(
            &spec,
            &Options {
                truncate,
                kind: Kind::Double,
                ..options(2)
            },
        )
        .unwrap()
    });
    let batch = batch(2, Kind::Double);
    let ((want, wanted), (got, given)) = (gradients(&full, &batch), gradients(&short, &batch));
    assert!((want - got).abs() <= 1e-9 * want.abs(), "{want} {got}");
    same_gradients(&wanted, &given);
}

#[test]
fn the_feature_is_taken_at_the_first_end_of_text() {
    let _turn = turn();
    let model = Model::new(&spec(Base::Clip, Child::Clip, vit(), false), &options(0)).unwrap();
    let tokens = Tensor::zeros([2, 20], (Kind::Int64, Device::Cpu));
    let _ = tokens.narrow(1, 4, 1).fill_(99);
    let _ = tokens.get(1).narrow(0, 9, 1).fill_(99);
    let _ = tokens.get(1).narrow(0, 6, 2).fill_(50);
    let feats = model.encode_text(&tokens).unwrap().feats;
    let far = (feats.get(0) - feats.get(1)).abs().max().double_value(&[]);
    assert!(far < 1e-6, "{far}");
}

#[test]
fn dropout_reaches_augmented_captions_alone_and_repeats_under_checkpointing() {
    let _turn = turn();
    let spec = spec(Base::Cl2l, Child::Cl2l, vit(), false);
    let noisy = Options {
        text_dropout_prob: 0.3,
        text_drop_path_prob: 0.3,
        ..options(1)
    };
    let [clean, dropped, recomputed] = [
        options(1),
        noisy.clone(),
        Options {
            checkpoint_grad: true,
            checkpoint_segments: Some(2),
            ..noisy
        },
    ]
    .map(|options| Model::new(&spec, &options).unwrap());
    let batch = batch(1, Kind::Float);
    let encode = |model: &Model| {
        tch::manual_seed(11);
        model.encode(&batch, true).unwrap()
    };
    let (calm, noise) = (encode(&clean), encode(&dropped));
    let far = (&calm.feats_text - &noise.feats_text)
        .abs()
        .max()
        .double_value(&[]);
    assert!(far < 1e-6, "{far}");
    assert_ne!(calm.feats_text_local[0], noise.feats_text_local[0]);
    assert_eq!(
        clean.encode(&batch, false).unwrap().z_text,
        dropped.encode(&batch, false).unwrap().z_text
    );
    let grads = [&dropped, &recomputed].map(|model| {
        tch::manual_seed(11);
        gradients(model, &batch).1
    });
    for ((name, want), (_, got)) in grads[0].iter().zip(&grads[1]) {
        assert_eq!(want, got, "{name}");
    }
}

#[test]
fn first_values_depend_on_the_seed_alone() {
    let _turn = turn();
    let spec = spec(Base::Cl2l, Child::Cl2l, vit(), true);
    let hash = |seed| {
        tch::manual_seed(seed as i64 + 99);
        Model::new(&spec, &Options { seed, ..options(2) })
            .unwrap()
            .registry()
            .hash()
            .unwrap()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn loading_names_every_misfit_and_takes_tied_tensors_under_any_name() {
    let _turn = turn();
    let spec = spec(Base::Cl2l, Child::Cl2l, vit(), false);
    let [a, b] = [1, 2].map(|seed| Model::new(&spec, &Options { seed, ..options(2) }).unwrap());
    let all: Vec<(&str, &Tensor)> = a.registry().state_dict().collect();
    assert_ne!(a.registry().hash().unwrap(), b.registry().hash().unwrap());
    b.registry().load(all.iter().copied()).unwrap();
    assert_eq!(a.registry().hash().unwrap(), b.registry().hash().unwrap());

    let later = all
        .iter()
        .copied()
        .filter(|(name, _)| *name != "image_projector.weight");
    b.registry().load(later).unwrap();

    let (wrong, before) = (
        Tensor::zeros([3], (Kind::Float, Device::Cpu)),
        b.registry().hash(),
    );
    let mut misfit: Vec<(&str, &Tensor)> = all
        .iter()
        .copied()
        .filter(|(name, _)| *name != "ln_final.bias")
        .collect();
    misfit.push(("nothing.weight", &wrong));
    misfit.retain(|(name, _)| *name != "ln_final.weight");
    misfit.push(("ln_final.weight", &wrong));
    let Err(Error::Load(error)) = b.registry().load(misfit) else {
        panic!("it fits");
    };
    assert_eq!(error.missing, ["ln_final.bias"]);
    assert_eq!(error.unexpected, ["nothing.weight"]);
    assert_eq!(error.mismatched[0].0, "ln_final.weight");
    assert_eq!(before.unwrap(), b.registry().hash().unwrap());
}

#[test]
fn wrong_sizes_are_sentences() {
    let _turn = turn();
    let wrong = Vision::Vit(VitDims {
        arch: VitArch::Vit,
        width: 48,
        depth: 1,
        heads: 5,
        patch: 8,
        image_size: 32,
        hidden: None,
    });
    let spec_of = |vision| spec(Base::Cl2l, Child::Cl2l, vision, false);
    let error = Model::new(&spec_of(wrong), &options(2))
        .unwrap_err()
        .to_string();
    assert!(error.contains("multiple of heads 5"), "{error}");
    let error = Model::new(&spec_of(Vision::Named("R51".into())), &options(2)).unwrap_err();
    assert!(error.to_string().contains("R50"), "{error}");
    let model = Model::new(&spec_of(vit()), &options(2)).unwrap();
    let error = model
        .encode(&batch(1, Kind::Float), true)
        .unwrap_err()
        .to_string();
    assert!(error.contains("1 + 2 views"), "{error}");
}
