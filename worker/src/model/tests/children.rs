//! Heads of the children, and the momentum encoder.

use super::*;

/// Heads of a few values.
pub(super) fn small(spec: Spec) -> Spec {
    Spec {
        barlip_proj_dim: 12,
        barlip_hidden_dim: 10,
        siamlip_proj_dim: 8,
        siamlip_hidden_dim: 10,
        swalip_proj_dim: 8,
        swalip_hidden_dim: 10,
        swalip_num_proto: 6,
        ..spec
    }
}

fn build(child: Child, change: impl FnOnce(&mut Spec)) -> (Model, Spec) {
    let mut spec = small(spec(child.base(), child, vit(), true));
    change(&mut spec);
    (Model::new(&spec, &options(2)).unwrap(), spec)
}

fn names(model: &Model) -> Vec<String> {
    let all = model.registry().state_dict();
    all.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_child_trains_every_parameter_that_it_has() {
    let _turn = turn();
    for child in [
        Child::Barlip,
        Child::Siamlip,
        Child::Swalip,
        Child::Swalipv1,
    ] {
        for other in [false, true] {
            let (model, _) = build(child, |spec| {
                spec.separate_proj_child = other;
                spec.siamlip_no_last_bn = other;
                spec.swalip_no_shared_proto = other;
                spec.swalip_learn_temperature = other;
            });
            let (loss, grads) = gradients(&model, &batch(model.num_augs(), Kind::Float));
            assert!(loss.is_finite(), "{child:?}");
            for (name, grad) in grads {
                assert!(grad.defined(), "{child:?} {name}");
            }
        }
    }
}

#[test]
fn siamlip_shares_all_but_the_last_batch_norm() {
    let _turn = turn();
    let (model, _) = build(Child::Siamlip, |_| ());
    let aliases = model.registry().aliases();
    let tied = |name: &str| aliases.iter().any(|(later, _)| *later == name);
    assert!(tied("siamlip_image_projector_local.0.0.weight"));
    assert!(tied("siamlip_text_projector_local.0.1.running_mean"));
    assert!(tied("text_image_predictor_local.3.bias"));
    assert!(!tied("siamlip_image_projector_local.1.running_mean"));
    let own = "siamlip_text_projector_local.1.running_var";
    assert!(names(&model).iter().any(|name| name == own));

    let (plain, _) = build(Child::Siamlip, |spec| spec.siamlip_no_last_bn = true);
    let all = names(&plain);
    assert!(all.contains(&"siamlip_image_projector_global.0.weight".to_owned()));
    assert!(!all.iter().any(|name| name.contains("projector_global.0.0")));
    let (apart, _) = build(Child::Siamlip, |spec| spec.separate_proj_child = true);
    assert!(apart.registry().aliases().is_empty());
}

#[test]
fn prototypes_have_length_one_and_are_shared_unless_they_are_not() {
    let _turn = turn();
    let (model, _) = build(Child::Swalipv1, |_| ());
    let registry = model.registry();
    let gain = registry.get("text_prototypes.weight_g").expect("a gain");
    assert!(!gain.requires_grad());
    assert_eq!(gain.sum(Kind::Double).double_value(&[]), 6.0);
    assert!(
        !registry
            .get("swalip_logit_scale")
            .expect("a scale")
            .requires_grad()
    );
    let embeddings = model.encode(&batch(0, Kind::Float), true).unwrap();
    let ChildEmbeddings::Prototypes {
        image, logit_scale, ..
    } = &embeddings.child
    else {
        panic!("no prototypes");
    };
    assert_eq!(image.size(), [4, 6]);
    assert!(image.abs().max().double_value(&[]) <= 1.0 + 1e-6);
    assert!((logit_scale.double_value(&[]) - 10.0).abs() < 1e-4);
    let (own, _) = build(Child::Swalipv1, |spec| spec.swalip_no_shared_proto = true);
    assert!(own.registry().aliases().is_empty());
}

#[test]
fn a_detached_projector_gives_its_tower_no_gradient() {
    let _turn = turn();
    for detach in [false, true] {
        let (model, _) = build(Child::Clip, |spec| spec.detach_proj = detach);
        loss(&model, &batch(0, Kind::Float)).total.backward();
        let grad = |name: &str| model.registry().get(name).expect("a tensor").grad();
        assert_eq!(grad("token_embedding.weight").defined(), !detach);
        assert!(grad("text_projector.weight").defined());
        assert!(grad("visual.cls_token").defined());
    }
}

#[test]
fn the_momentum_encoder_follows_the_parameters_and_keeps_its_own_statistics() {
    let _turn = turn();
    for child in [Child::Siamlip, Child::Swalipv1] {
        let (model, spec) = build(child, |spec| spec.momentum = true);
        let momentum = MomentumEncoder::new(&model, &spec, &options(2)).unwrap();
        assert_eq!(
            model.registry().hash().unwrap(),
            momentum.registry().hash().unwrap()
        );
        assert!(momentum.registry().trainable().next().is_none());
        let batch = batch(model.num_augs(), Kind::Float);
        let before = names(&model);
        assert_eq!(
            before,
            momentum
                .registry()
                .state_dict()
                .map(|(name, _)| name.to_owned())
                .collect::<Vec<_>>()
        );

        let targets = momentum.encode(&batch).unwrap();
        let embeddings = model
            .encode(&batch, true)
            .unwrap()
            .with_targets(targets)
            .unwrap();
        for (name, tensor) in embeddings.named() {
            let target = name.contains("_momentum");
            assert!(!(target && tensor.requires_grad()), "{name}");
        }
        let named = embeddings.named();
        assert!(named.iter().any(|(name, _)| name.contains("_momentum")));
        objective(embeddings).total.backward();

        let weight = "visual.cls_token";
        let value = |registry: &Registry| registry.get(weight).expect("it").copy();
        let old = value(momentum.registry());
        tch::no_grad(|| {
            for entry in model.registry().parameters() {
                let _ = entry.tensor.shallow_clone().g_add_scalar_(1.0);
            }
        });
        let statistics = "visual.norm.weight";
        assert!(model.registry().get(statistics).is_some());
        momentum.update(&model, 0.75).unwrap();
        let want = old * 0.75 + value(model.registry()) * 0.25;
        let far = (want - value(momentum.registry()))
            .abs()
            .max()
            .double_value(&[]);
        assert!(far < 1e-6, "{far}");
        let pairs = model
            .registry()
            .buffers()
            .zip(momentum.registry().buffers());
        for (_, theirs) in pairs {
            assert!(!theirs.tensor.requires_grad());
        }
    }
    let (model, spec) = build(Child::Barlip, |_| ());
    let error = MomentumEncoder::new(&model, &spec, &options(2))
        .unwrap_err()
        .to_string();
    assert!(error.contains("SIAMLIP"), "{error}");
}

#[test]
fn a_text_tower_starts_from_another_and_says_what_it_took() {
    let _turn = turn();
    let (source, _) = build(Child::Cl2l, |_| ());
    let (model, _) = build(Child::Cl2l, |spec| spec.transformer_layers = 4);
    let _ = tch::no_grad(|| {
        let bias = source
            .registry()
            .get("transformer.resblocks.0.ln_1.bias")
            .expect("it");
        bias.shallow_clone().fill_(3.0)
    });
    let prefixed: Vec<(String, &Tensor)> = source
        .registry()
        .state_dict()
        .map(|(name, tensor)| (format!("module.{name}"), tensor))
        .collect();
    let named = || {
        prefixed
            .iter()
            .map(|(name, tensor)| (name.as_str(), *tensor))
    };
    let init = model.init_text_encoder(named()).unwrap();
    assert_eq!(
        (init.loaded.len(), init.fresh.len(), init.unknown.len()),
        (36, 12, 0)
    );
    let ours = model
        .registry()
        .get("transformer.resblocks.0.ln_1.bias")
        .expect("it");
    assert_eq!(ours.max().double_value(&[]), 3.0);
    let init = source
        .init_text_encoder(model.registry().state_dict())
        .unwrap();
    assert_eq!(init.unknown.len(), 12);

    let (wide, _) = build(Child::Cl2l, |spec| spec.transformer_width = 48);
    let error = wide.init_text_encoder(named()).unwrap_err().to_string();
    assert!(error.contains("of another shape"), "{error}");
    let none = named().filter(|(name, _)| !name.contains("transformer"));
    let error = model.init_text_encoder(none).unwrap_err().to_string();
    assert!(error.contains("no text tower"), "{error}");
}
