//! The original's command line, as recorded in golden files, to our own sections.

use rocket_common::experiment::{
    Base, Child, LossAvgOrSum, Model as Spec, ProjType, Train, Vision,
};
use tch::{Device, Kind};

use crate::loss::Objective;
use crate::model::Options;

/// What the recorded flags say.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The model's section, resolved.
    pub spec: Spec,
    /// What else the model needs.
    pub options: Options,
    /// What the loss needs.
    pub train: Train,
}

/// Flags that change no number of a step: their values are passed over.
const IDLE: [&str; 6] = [
    "--attn-layer",
    "--ssl-scale",
    "--ssl-temp",
    "--batch-size",
    "--epochs",
    "--seed",
];
/// The same for flags without a value.
const IDLE_SWITCHES: [&str; 2] = ["--no-share-token", "--disable-amp"];

/// Parts of a model's name, `<base>_<vision>_<child>`.
fn split(name: &str) -> Result<(Base, Vision, Child), String> {
    let wrong = || format!("model '{name}' is not <base>_<vision>_<child>, as in CL2L_R50_CL2L");
    let parts: Vec<&str> = name.split('_').collect();
    let [base, vision, child] = parts[..] else {
        return Err(wrong());
    };
    let base = match base {
        "CLIP" => Base::Clip,
        "CL2L" => Base::Cl2l,
        _ => return Err(wrong()),
    };
    let child = match child {
        "CLIP" => Child::Clip,
        "CL2L" => Child::Cl2l,
        "BARLIP" => Child::Barlip,
        "SIAMLIP" => Child::Siamlip,
        "SWALIP" => Child::Swalip,
        "SWALIPV1" => Child::Swalipv1,
        _ => return Err(wrong()),
    };
    Ok((base, Vision::Named(vision.to_owned()), child))
}

impl Recipe {
    /// Reads a model's name and flags. The original's defaults hold for what is not given.
    ///
    /// # Errors
    /// For a name or flag that this version does not have.
    pub fn parse(model: &str, argv: &[String], kind: Kind) -> Result<Self, String> {
        let (base, vision, child) = split(model)?;
        let mut recipe = Self {
            spec: Spec {
                base: Some(base),
                vision: Some(vision),
                child: Some(child),
                ..Spec::default()
            },
            options: Options {
                num_augs: 2,
                text_dropout_prob: 0.0,
                text_drop_path_prob: 0.0,
                truncate: false,
                checkpoint_grad: false,
                seed: 0,
                kind,
                device: Device::Cpu,
                group: None,
                ..Options::default()
            },
            train: Train::default(),
        };
        let mut flags = argv.iter().map(String::as_str);
        while let Some(flag) = flags.next() {
            let (flag, inline) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (flag, None),
            };
            if recipe.switch(flag) {
                continue;
            }
            let value = inline
                .or_else(|| flags.next())
                .ok_or_else(|| format!("flag {flag} has no value, or is not in this version"))?;
            recipe.set(flag, value)?;
        }
        Ok(recipe)
    }

    /// The loss.
    #[must_use]
    pub fn objective(&self) -> Objective {
        Objective::new(self.spec.child.unwrap_or(Child::Clip), &self.train)
    }

    fn switch(&mut self, flag: &str) -> bool {
        match flag {
            "--separate-proj" => self.spec.separate_proj = true,
            "--separate-proj-child" => self.spec.separate_proj_child = true,
            "--detach-proj" => self.spec.detach_proj = true,
            "--momentum" => self.spec.momentum = true,
            "--siamlip-no-last-bn" => self.spec.siamlip_no_last_bn = true,
            "--swalip-no-shared-proto" => self.spec.swalip_no_shared_proto = true,
            "--swalip-learn-temperature" => self.spec.swalip_learn_temperature = true,
            "--checkpoint-grad" => self.options.checkpoint_grad = true,
            _ => return IDLE_SWITCHES.contains(&flag),
        }
        true
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("flag {flag} cannot be '{value}'");
        let integer = || value.parse::<i64>().map_err(|_| wrong());
        let real = || value.parse::<f64>().map_err(|_| wrong());
        let projector = || match value {
            "mlp" => Ok(ProjType::Mlp),
            "linear" => Ok(ProjType::Linear),
            _ => Err(wrong()),
        };
        match flag {
            "--embed-dim" => self.spec.embed_dim = integer()?,
            "--clip-hidden-dim" => self.spec.clip_hidden_dim = integer()?,
            "--transformer-layers" => self.spec.transformer_layers = integer()?,
            "--clip-proj-type" => self.spec.clip_proj_type = projector()?,
            "--cl2l-txt-proj-type" => self.spec.cl2l_txt_proj_type = projector()?,
            "--cl2l-img-proj-type" => self.spec.cl2l_img_proj_type = projector()?,
            "--num-augs" => self.options.num_augs = value.parse().map_err(|_| wrong())?,
            "--momentum-tau" => self.spec.momentum_tau = real()?,
            "--barlip-proj-dim" => self.spec.barlip_proj_dim = integer()?,
            "--barlip-hidden-dim" => self.spec.barlip_hidden_dim = integer()?,
            "--barlip-lamb" => self.train.barlip_lamb = real()?,
            "--barlip-scale-loss" => self.train.barlip_scale_loss = real()?,
            "--siamlip-proj-dim" => self.spec.siamlip_proj_dim = integer()?,
            "--siamlip-hidden-dim" => self.spec.siamlip_hidden_dim = integer()?,
            "--swalip-proj-dim" => self.spec.swalip_proj_dim = integer()?,
            "--swalip-hidden-dim" => self.spec.swalip_hidden_dim = integer()?,
            "--swalip-num-proto" => self.spec.swalip_num_proto = integer()?,
            "--swalip-temperature" => self.spec.swalip_temperature = real()?,
            "--swalip-weight" => self.train.swalip_weight = real()?,
            "--swalip-freeze-proto-iters" => {
                self.train.swalip_freeze_proto_iters = value.parse().map_err(|_| wrong())?;
            }
            "--sk-iters" => self.train.sk_iters = value.parse().map_err(|_| wrong())?,
            "--target-epsilon" => self.train.target_epsilon = real()?,
            "--label-smoothing" => self.train.label_smoothing = real()?,
            "--loss-avg-or-sum" => {
                // The original doubles for `sum` and takes any other word as the mean.
                self.train.loss_avg_or_sum = if value == "sum" {
                    LossAvgOrSum::Sum
                } else {
                    LossAvgOrSum::Avg
                };
            }
            "--text-dropout-prob" | "--text-drop-path-prob" if real()? == 0.0 => {}
            "--text-dropout-prob" | "--text-drop-path-prob" => {
                return Err(format!(
                    "{flag} {value} is random: there is nothing to compare with"
                ));
            }
            _ if IDLE.contains(&flag) => {}
            _ => return Err(format!("flag {flag} is not in this version")),
        }
        Ok(())
    }
}
