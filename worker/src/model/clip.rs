//! CLIP (arXiv 2103.00020) and CL2L (arXiv 2305.08675): two towers, their projectors and scales.

use rocket_common::experiment::{Base, Child, Experiment, Model as Spec, ProjType};
use tch::{Device, Kind, Tensor};

use super::batch::Batch;
use super::batch_norm::SyncGroup;
use super::builder::{Init, Scope};
use super::embeddings::{ChildEmbeddings, Embeddings, Encoded};
use super::heads::{Projector, ProjectorSize};
use super::layers::Linear;
use super::pass::Pass;
use super::registry::Registry;
use super::text::TextTower;
use super::transformer::Noise;
use super::vision::{Tower, VisionSize};
use super::{Error, Result};

/// Upper bound of a logit scale's logarithm; its factor is then 100.
pub const LOGIT_SCALE_MAX: f64 = 4.6052;
/// Hidden width of the CL2L projectors, which the reference does not let be chosen.
const L2L_HIDDEN: i64 = 4096;

/// What a model needs besides its own section of the experiment.
#[derive(Debug, Clone)]
pub struct Options {
    /// Strong views per sample; 0 for base CLIP whatever is said here.
    pub num_augs: usize,
    /// Dropout in the text tower, augmented captions only.
    pub text_dropout_prob: f64,
    /// Stochastic depth in the text tower, augmented captions only.
    pub text_drop_path_prob: f64,
    /// Compute text only up to the longest caption of the batch.
    pub truncate: bool,
    /// Recompute the blocks' activations in backward.
    pub checkpoint_grad: bool,
    /// Seed of the first values.
    pub seed: u64,
    /// Kind of parameters and activations: `Float`, or `Double` for parity.
    pub kind: Kind,
    /// Where the tensors live.
    pub device: Device,
    /// Ranks over which batch norms are synchronised.
    pub group: SyncGroup,
}

impl Options {
    /// The options of an experiment.
    #[must_use]
    pub fn of(experiment: &Experiment, device: Device, group: SyncGroup) -> Self {
        Self {
            num_augs: experiment.augment.num_augs,
            text_dropout_prob: experiment.text.text_dropout_prob,
            text_drop_path_prob: experiment.text.text_drop_path_prob,
            truncate: experiment.text.truncate,
            checkpoint_grad: experiment.train.checkpoint_grad,
            seed: experiment.seed,
            kind: Kind::Float,
            device,
            group,
        }
    }
}

/// A model of base CLIP or CL2L with child CLIP or CL2L.
#[derive(Debug)]
pub struct Model {
    registry: Registry,
    vision: Tower,
    vision_size: VisionSize,
    text: TextTower,
    image_projector: Projector,
    text_projector: Projector,
    logit_scale: Tensor,
    local: LocalHeads,
    num_augs: usize,
    noise: Noise,
    checkpoint: bool,
}

/// Heads of the augmented views.
#[derive(Debug)]
enum LocalHeads {
    /// Child CLIP: the CLIP heads, and no h in evaluation.
    Clip,
    /// Child CL2L without `separate_proj`: the CLIP heads under a second name.
    Tied,
    /// Child CL2L with `separate_proj`.
    Own {
        image: Projector,
        text: Projector,
        logit_scale: Tensor,
    },
}

impl Model {
    /// Builds a model with fresh weights, a function of the seed alone.
    ///
    /// # Errors
    /// If the section is not resolved, asks for what this version lacks, or has sizes that do not fit.
    pub fn new(spec: &Spec, options: &Options) -> Result<Self> {
        let base = spec.base.ok_or(Error::Unresolved("base"))?;
        let child = spec.child.ok_or(Error::Unresolved("child"))?;
        let vision = spec.vision.as_ref().ok_or(Error::Unresolved("vision"))?;
        let cl2l = match child {
            Child::Clip => false,
            Child::Cl2l => true,
            other => return Err(Error::NotInThisVersion(format!("model.child {other:?}"))),
        };
        check_text(spec)?;
        let vision_size = VisionSize::of(vision)?;
        let num_augs = if base == Base::Clip {
            0
        } else {
            options.num_augs
        };
        let separate = cl2l && spec.separate_proj;
        let group = &options.group;

        // This order is the registry's, and so the reference's.
        let root = Scope::root(options.kind, options.device, options.seed);
        let positions = TextTower::positions(&root, spec)?;
        let scale = |name: &str, temperature: f64| {
            root.param(name, &[], Init::Const((1.0 / temperature).ln()))
        };
        let logit_scale = scale("logit_scale", 0.07)?;
        let l2l_logit_scale = separate
            .then(|| scale("l2l_logit_scale", 0.1))
            .transpose()?;
        let vision = Tower::new(&root.sub("visual"), vision_size, group)?;
        let text = TextTower::new(&root, spec, positions, options.truncate)?;
        let clip_head = |name: &str, input: i64| {
            let size = ProjectorSize {
                kind: spec.clip_proj_type,
                input,
                hidden: spec.clip_hidden_dim,
                output: spec.embed_dim,
                init: Init::Normal((input as f64).powf(-0.5)),
            };
            Projector::new(&root.sub(name), size, group)
        };
        let l2l_head = |name: &str, kind: ProjType, input: i64| {
            let (output, init) = (spec.embed_dim, Linear::torch_default(input));
            let size = ProjectorSize {
                kind,
                input,
                hidden: L2L_HIDDEN,
                output,
                init,
            };
            Projector::new(&root.sub(name), size, group)
        };
        let (image_width, text_width) = (vision_size.width(), spec.transformer_width);
        let image_projector = clip_head("image_projector", image_width)?;
        let text_projector = clip_head("text_projector", text_width)?;
        let local = match l2l_logit_scale {
            Some(logit_scale) => LocalHeads::Own {
                image: l2l_head("l2l_image_projector", spec.cl2l_img_proj_type, image_width)?,
                text: l2l_head("l2l_text_projector", spec.cl2l_txt_proj_type, text_width)?,
                logit_scale,
            },
            None if cl2l => {
                root.alias("l2l_image_projector", "image_projector");
                root.alias("l2l_text_projector", "text_projector");
                LocalHeads::Tied
            }
            None => LocalHeads::Clip,
        };
        let mut registry = root.into_registry();
        if separate && num_augs == 0 {
            registry.freeze("l2l_");
        }
        let noise = Noise {
            dropout: options.text_dropout_prob,
            drop_path: options.text_drop_path_prob,
        };
        let checkpoint = options.checkpoint_grad;
        Ok(Self {
            registry,
            vision,
            vision_size,
            text,
            image_projector,
            text_projector,
            logit_scale,
            local,
            num_augs,
            noise,
            checkpoint,
        })
    }

    /// The model's tensors by name.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Strong views per sample that training takes; 0 for base CLIP.
    #[must_use]
    pub fn num_augs(&self) -> usize {
        self.num_augs
    }

    /// Sizes of the vision tower.
    #[must_use]
    pub fn vision_size(&self) -> VisionSize {
        self.vision_size
    }

    /// Encodes every view of a batch, with gradients unless the caller turned them off.
    ///
    /// # Errors
    /// If the batch has another number of views or other sizes than the model, or torch fails.
    pub fn encode(&self, batch: &Batch, train: bool) -> Result<Embeddings> {
        let pass = if train {
            Pass::train(self.checkpoint)
        } else {
            Pass::EVAL
        };
        let (b, views, context) = batch.tokens.size3()?;
        let augs = self.num_augs as i64;
        if views != 1 + augs || batch.images_local.len() != self.num_augs {
            return Err(Error::Dimensions(format!(
                "the model takes 1 + {augs} views; the batch has {views} captions and 1 + {} images",
                batch.images_local.len()
            )));
        }
        let mut images = self.encode_views(batch, pass)?.into_iter();
        let feats_image = images.next().ok_or(Error::Unresolved("views"))?;
        let feats_image_local: Vec<Tensor> = images.collect();
        let z_image = self.image_projector.forward(&feats_image, pass)?;

        // Views before samples: [B, V, C] -> [V * B, C].
        let tokens = batch
            .tokens
            .f_transpose(0, 1)?
            .f_reshape([views * b, context])?;
        let text = self.text.embed(&tokens)?;
        let feats_text = if !train || self.noise.is_none() || augs == 0 {
            self.text.forward(&text, Noise::NONE, pass)?
        } else {
            let global = self.text.forward(&text.rows(0, b)?, Noise::NONE, pass)?;
            let local = self
                .text
                .forward(&text.rows(b, augs * b)?, self.noise, pass)?;
            Tensor::f_cat(&[global, local], 0)?
        };
        let mut texts = feats_text.f_split(b, 0)?.into_iter();
        let feats_text = texts.next().ok_or(Error::Unresolved("captions"))?;
        let feats_text_local: Vec<Tensor> = texts.collect();
        let z_text = self.text_projector.forward(&feats_text, pass)?;

        let (image_head, text_head) = self.local_heads();
        let project = |head: &Projector, feats: &[Tensor]| -> Result<Vec<Tensor>> {
            feats
                .iter()
                .map(|feats| head.forward(feats, pass))
                .collect()
        };
        let logit_scale = self.logit_scale.f_exp()?;
        let h_logit_scale = match &self.local {
            LocalHeads::Own { logit_scale, .. } => logit_scale.f_exp()?,
            LocalHeads::Clip | LocalHeads::Tied => logit_scale.shallow_clone(),
        };
        Ok(Embeddings {
            h_image_local: project(image_head, &feats_image_local)?,
            h_text_local: project(text_head, &feats_text_local)?,
            feats_image,
            feats_text,
            feats_image_local,
            feats_text_local,
            z_image,
            z_text,
            logit_scale,
            h_logit_scale,
            child: ChildEmbeddings::None,
        })
    }

    /// Image features of the weak view, then of the strong ones. A tower with batch norms takes view
    /// after view, as each has statistics of its own; any other takes them as one batch.
    fn encode_views(&self, batch: &Batch, pass: Pass) -> Result<Vec<Tensor>> {
        let all = || std::iter::once(&batch.image_global).chain(&batch.images_local);
        let size = batch.image_global.size();
        let alike = all().all(|image| image.size() == size);
        if self.num_augs == 0 || self.vision_size.mixes_samples() || !alike {
            return all()
                .map(|image| self.vision.forward(image, pass))
                .collect();
        }
        let joined = Tensor::f_cat(&all().collect::<Vec<_>>(), 0)?;
        Ok(self.vision.forward(&joined, pass)?.f_split(size[0], 0)?)
    }

    fn local_heads(&self) -> (&Projector, &Projector) {
        match &self.local {
            LocalHeads::Own { image, text, .. } => (image, text),
            LocalHeads::Clip | LocalHeads::Tied => (&self.image_projector, &self.text_projector),
        }
    }

    fn encoded(&self, feats: Tensor, head: &Projector, local: &Projector) -> Result<Encoded> {
        let z = head.forward(&feats, Pass::EVAL)?;
        let h = match self.local {
            LocalHeads::Clip => None,
            LocalHeads::Tied => Some(z.shallow_clone()),
            LocalHeads::Own { .. } => Some(local.forward(&feats, Pass::EVAL)?),
        };
        Ok(Encoded { feats, z, h })
    }

    /// Images `[N, 3, H, W]` to their embeddings, in evaluation mode and without gradients.
    ///
    /// # Errors
    /// If the sizes do not fit or torch fails.
    pub fn encode_image(&self, images: &Tensor) -> Result<Encoded> {
        let _guard = tch::no_grad_guard();
        let feats = self.vision.forward(images, Pass::EVAL)?;
        self.encoded(feats, &self.image_projector, self.local_heads().0)
    }

    /// Token ids `[N, context_length]` to their embeddings, in evaluation mode and without gradients.
    ///
    /// # Errors
    /// If the sizes do not fit or torch fails.
    pub fn encode_text(&self, tokens: &Tensor) -> Result<Encoded> {
        let _guard = tch::no_grad_guard();
        let text = self.text.embed(tokens)?;
        let feats = self.text.forward(&text, Noise::NONE, Pass::EVAL)?;
        self.encoded(feats, &self.text_projector, self.local_heads().1)
    }

    /// Clamps the logit scales to `[0, LOGIT_SCALE_MAX]`; due after every optimiser step.
    ///
    /// # Errors
    /// If torch fails.
    pub fn clamp_logit_scales(&self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let own = match &self.local {
            LocalHeads::Own { logit_scale, .. } => Some(logit_scale),
            LocalHeads::Clip | LocalHeads::Tied => None,
        };
        for scale in std::iter::once(&self.logit_scale).chain(own) {
            let _ = scale.shallow_clone().f_clamp_(0.0, LOGIT_SCALE_MAX)?;
        }
        Ok(())
    }
}

/// Checks the sizes of the text tower.
fn check_text(spec: &Spec) -> Result<()> {
    let Spec {
        transformer_width: width,
        transformer_heads: heads,
        ..
    } = *spec;
    let positive = [
        width,
        heads,
        spec.transformer_layers,
        spec.context_length,
        spec.vocab_size,
        spec.embed_dim,
        spec.clip_hidden_dim,
    ];
    if positive.iter().any(|size| *size <= 0) || width % heads != 0 {
        return Err(Error::Dimensions(format!(
            "model: transformer_width {width} must be a multiple of transformer_heads {heads}, and \
             transformer_layers, context_length, vocab_size, embed_dim and clip_hidden_dim positive"
        )));
    }
    Ok(())
}
