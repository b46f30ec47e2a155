//! Captions computed in groups of similar length.

use super::*;
use crate::model::groups::CostModel;

fn grouped(options: &Options) -> Model {
    let spec = spec(Base::Cl2l, Child::Cl2l, vit(), true);
    let mut model = Model::new(&spec, options).unwrap();
    model.text.cost_model = CostModel::MANY_GROUPS;
    model
}

fn short(num_augs: usize) -> Options {
    Options {
        truncate: true,
        ..options(num_augs)
    }
}

#[test]
fn groups_change_features_and_gradients_by_rounding_alone() {
    let _turn = turn();
    let double = |truncate| Options {
        truncate,
        kind: Kind::Double,
        ..options(2)
    };
    let spec = spec(Base::Cl2l, Child::Cl2l, vit(), true);
    let batch = batch(2, Kind::Double);
    let (want, wanted) = gradients(&Model::new(&spec, &double(false)).unwrap(), &batch);
    let (got, given) = gradients(&grouped(&double(true)), &batch);
    assert!((want - got).abs() <= 1e-12 * want.abs(), "{want} {got}");
    same_gradients(&wanted, &given);
}

#[test]
fn in_float32_grouped_features_are_close_and_repeat_to_the_bit() {
    let _turn = turn();
    let batch = batch(2, Kind::Float);
    let one = Model::new(&spec(Base::Cl2l, Child::Cl2l, vit(), true), &short(2)).unwrap();
    let many = grouped(&short(2));
    let text = |model: &Model| model.features(&batch, true).unwrap().text_local[1].copy();
    let far = (text(&one) - text(&many)).abs().max().double_value(&[]);
    assert!(far < 1e-5, "{far}");
    assert_eq!(text(&many), text(&many));
}

#[test]
fn groups_go_with_noise_and_with_recomputing() {
    let _turn = turn();
    let noisy = Options {
        text_dropout_prob: 0.2,
        text_drop_path_prob: 0.2,
        ..short(2)
    };
    let recomputing = Options {
        checkpoint_grad: true,
        checkpoint_segments: Some(2),
        ..noisy.clone()
    };
    let batch = batch(2, Kind::Float);
    let clean = grouped(&short(2)).features(&batch, true).unwrap();
    let [kept, again] = [noisy, recomputing].map(|options| grouped(&options));
    tch::manual_seed(5);
    let dropped = kept.features(&batch, true).unwrap();
    let far = (&clean.text - &dropped.text).abs().max().double_value(&[]);
    assert!(far < 1e-5, "{far}");
    for (clean, dropped) in clean.text_local.iter().zip(&dropped.text_local) {
        assert_ne!(clean, dropped);
    }
    let [want, got] = [kept, again].map(|model| {
        tch::manual_seed(11);
        gradients(&model, &batch).1
    });
    for ((name, want), (_, got)) in want.iter().zip(&got) {
        assert_eq!(want, got, "{name}");
    }
}
