//! CLIP (arXiv 2103.00020) and CL2L (arXiv 2305.08675): two towers, their projectors and scales, and
//! the heads of a child.

use rocket_common::experiment::{Base, Child, Model as Spec, ProjType};
use tch::Tensor;

use super::batch::Batch;
use super::builder::{Init, Scope};
use super::children::ChildHeads;
use super::embeddings::{Embeddings, Encoded, Targets};
use super::features::Features;
use super::heads::{Projector, ProjectorSize};
use super::layers::Linear;
use super::options::Options;
use super::pass::Pass;
use super::registry::{LoadError, Registry};
use super::segments::{Checkpoint, Plan};
use super::text::TextTower;
use super::transformer::Noise;
use super::vision::{Tower, VisionSize};
use super::{Error, Result};

/// Upper bound of a logit scale's logarithm; its factor is then 100.
pub const LOGIT_SCALE_MAX: f64 = 4.6052;
/// Hidden width of the CL2L projectors, which the reference does not let be chosen.
const L2L_HIDDEN: i64 = 4096;

/// A model of base CLIP or CL2L with any child.
#[derive(Debug)]
pub struct Model {
    registry: Registry,
    pub(super) vision: Tower,
    vision_size: VisionSize,
    pub(super) text: TextTower,
    image_projector: Projector,
    text_projector: Projector,
    logit_scale: Tensor,
    local: LocalHeads,
    child: ChildHeads,
    detach_proj: bool,
    num_augs: usize,
    noise: Noise,
    pub(super) checkpoint: Checkpoint,
}

/// What [`Model::init_text_encoder`] did, by name.
#[derive(Debug, Default)]
pub struct TextInit {
    /// Copied.
    pub loaded: Vec<String>,
    /// Of this model, not in the source: they keep their first values.
    pub fresh: Vec<String>,
    /// In the source, not of this model, such as more blocks than it has.
    pub unknown: Vec<String>,
}

/// Heads of the augmented views.
#[derive(Debug)]
enum LocalHeads {
    /// Children CLIP and SWALIPV1: the CLIP heads, and no h in evaluation.
    Clip,
    /// Children of CL2L without `separate_proj`: the CLIP heads under a second name.
    Tied,
    /// Children of CL2L with `separate_proj`.
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
        Self::build(spec, options, Some(options.seed))
    }

    /// As [`Model::new`]; without a seed the parameters are left for another model's.
    pub(super) fn build(spec: &Spec, options: &Options, seed: Option<u64>) -> Result<Self> {
        let base = spec.base.ok_or(Error::Unresolved("base"))?;
        let child = spec.child.ok_or(Error::Unresolved("child"))?;
        let vision = spec.vision.as_ref().ok_or(Error::Unresolved("vision"))?;
        let cl2l = !matches!(child, Child::Clip | Child::Swalipv1);
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
        let root = Scope::root(options.kind, options.device, seed);
        let positions = TextTower::positions(&root, spec)?;
        let scale = |name: &str, temperature: f64| {
            root.param(name, &[], Init::Const((1.0 / temperature).ln()))
        };
        let logit_scale = scale("logit_scale", 0.07)?;
        let l2l_logit_scale = separate
            .then(|| scale("l2l_logit_scale", 0.1))
            .transpose()?;
        let child_scale = ChildHeads::scale(&root, spec)?;
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
        let widths = [image_width, text_width];
        let child = ChildHeads::new(&root, spec, widths, child_scale, group)?;
        let mut registry = root.into_registry();
        if num_augs == 0 {
            // Nothing reaches the heads of views that there are none of.
            for prefix in ["l2l_"].iter().chain(&ChildHeads::LOCAL) {
                registry.freeze(prefix);
            }
        }
        let noise = Noise {
            dropout: options.text_dropout_prob,
            drop_path: options.text_drop_path_prob,
        };
        let checkpoint = Checkpoint::of(options);
        Ok(Self {
            registry,
            vision,
            vision_size,
            text,
            image_projector,
            text_projector,
            logit_scale,
            local,
            child,
            detach_proj: spec.detach_proj,
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

    fn pass(train: bool) -> Pass {
        if train { Pass::TRAIN } else { Pass::EVAL }
    }

    /// Encodes every view of a batch, with gradients unless the caller turned them off: the features,
    /// projected.
    ///
    /// # Errors
    /// If the batch has another number of views or other sizes than the model, or torch fails.
    pub fn encode(&self, batch: &Batch, train: bool) -> Result<Embeddings> {
        self.project(&self.features(batch, train)?, train)
    }

    /// The towers' features of every view of a batch.
    ///
    /// # Errors
    /// If the batch has another number of views or other sizes than the model, or torch fails.
    pub fn features(&self, batch: &Batch, train: bool) -> Result<Features> {
        self.features_in(batch, Self::pass(train))
    }

    /// The features of a batch that went through [`Model::features`] in training before: the same, to
    /// the bit if the generators are where they were then, but running statistics stay as they are.
    ///
    /// # Errors
    /// As [`Model::features`].
    pub fn features_again(&self, batch: &Batch) -> Result<Features> {
        let pass = Pass {
            again: true,
            ..Pass::TRAIN
        };
        self.features_in(batch, pass)
    }

    fn features_in(&self, batch: &Batch, pass: Pass) -> Result<Features> {
        let (b, views, context) = batch.tokens.size3()?;
        let augs = self.num_augs as i64;
        if views != 1 + augs || batch.images_local.len() != self.num_augs {
            return Err(Error::Dimensions(format!(
                "the model takes 1 + {augs} views; the batch has {views} captions and 1 + {} images",
                batch.images_local.len()
            )));
        }
        // Views before samples: [B, V, C] -> [V * B, C].
        let tokens = batch
            .tokens
            .f_transpose(0, 1)?
            .f_reshape([views * b, context])?;
        let ends = self.text.ends(&tokens)?;
        // Only augmented captions get noise; without noise all are one batch.
        let noisy = if pass.train && !self.noise.is_none() {
            b
        } else {
            views * b
        };
        let noisy = usize::try_from(noisy).unwrap_or(usize::MAX);
        let [vision_plan, text_plan] = self.plans(batch, &ends, noisy)?.0;
        let mut images = self.encode_views(batch, pass, &vision_plan)?.into_iter();
        let image = images.next().ok_or(Error::Unresolved("views"))?;
        let feats_text = self
            .text
            .forward(&tokens, &ends, noisy, self.noise, pass, &text_plan)?;
        let mut texts = feats_text.f_split(b, 0)?.into_iter();
        Ok(Features {
            image,
            text: texts.next().ok_or(Error::Unresolved("captions"))?,
            image_local: images.collect(),
            text_local: texts.collect(),
        })
    }

    /// Projects features to what losses take.
    ///
    /// # Errors
    /// If the features have other views or widths than the model, or torch fails.
    pub fn project(&self, features: &Features, train: bool) -> Result<Embeddings> {
        let pass = Self::pass(train);
        let z_image = self.image_projector.forward(&features.image, pass)?;
        let z_text = if self.detach_proj {
            let feats = features.text.f_detach()?;
            self.text_projector.forward(&feats, pass)?
        } else {
            self.text_projector.forward(&features.text, pass)?
        };
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
        let clones = |views: &[Tensor]| views.iter().map(Tensor::shallow_clone).collect();
        Ok(Embeddings {
            h_image_local: project(image_head, &features.image_local)?,
            h_text_local: project(text_head, &features.text_local)?,
            feats_image: features.image.shallow_clone(),
            feats_text: features.text.shallow_clone(),
            feats_image_local: clones(&features.image_local),
            feats_text_local: clones(&features.text_local),
            z_image,
            z_text,
            logit_scale,
            h_logit_scale,
            child: self.child.forward(features, pass)?,
        })
    }

    /// What this model gives as a momentum encoder; `None` for a child without targets.
    pub(super) fn targets(&self, features: &Features) -> Result<Option<Targets>> {
        self.child.targets(features, Pass::TRAIN)
    }

    /// Whether the views of a batch go through the vision tower as one. A tower with batch norms takes
    /// view after view, as each has statistics of its own, and so does any for views of several sizes.
    pub(super) fn joins(&self, batch: &Batch) -> bool {
        let size = batch.image_global.size();
        let alike = batch.views().all(|image| image.size() == size);
        self.num_augs > 0 && !self.vision_size.mixes_samples() && alike
    }

    /// Image features of the weak view, then of the strong ones.
    fn encode_views(&self, batch: &Batch, pass: Pass, plan: &Plan) -> Result<Vec<Tensor>> {
        if !self.joins(batch) {
            let features = |image| self.vision.forward(image, pass, plan);
            return batch.views().map(features).collect();
        }
        let joined = Tensor::f_cat(&batch.views().collect::<Vec<_>>(), 0)?;
        let (each, ..) = batch.image_global.size4()?;
        Ok(self.vision.forward(&joined, pass, plan)?.f_split(each, 0)?)
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
        let feats = self.vision.forward(images, Pass::EVAL, &Plan::Keep)?;
        self.encoded(feats, &self.image_projector, self.local_heads().0)
    }

    /// Token ids `[N, context_length]` to their embeddings, in evaluation mode and without gradients.
    ///
    /// # Errors
    /// If the sizes do not fit or torch fails.
    pub fn encode_text(&self, tokens: &Tensor) -> Result<Encoded> {
        let _guard = tch::no_grad_guard();
        let ends = self.text.ends(tokens)?;
        let (none, keep) = (Noise::NONE, &Plan::Keep);
        let feats = self
            .text
            .forward(tokens, &ends, usize::MAX, none, Pass::EVAL, keep)?;
        self.encoded(feats, &self.text_projector, self.local_heads().1)
    }

    /// Token ids `[N, context_length]` to features `[N, text width]`, in training mode and with gradients.
    ///
    /// # Errors
    /// If the sizes do not fit or torch fails.
    pub fn text_features(&self, tokens: &Tensor) -> Result<Tensor> {
        let ends = self.text.ends(tokens)?;
        let (none, keep) = (Noise::NONE, &Plan::Keep);
        self.text
            .forward(tokens, &ends, usize::MAX, none, Pass::TRAIN, keep)
    }

    /// SWALIPV1's trainable prototypes, which the recipe holds still at first.
    #[must_use]
    pub fn prototypes(&self) -> Vec<Tensor> {
        let all = self.registry.trainable();
        let learnt = all.filter(|entry| entry.name.contains("prototypes"));
        learnt.map(|entry| entry.tensor.shallow_clone()).collect()
    }

    /// Turns off every gradient.
    pub(super) fn freeze(&mut self) {
        self.registry.freeze("");
    }

    /// Copies the text tower's blocks out of named tensors (`init_text_encoder`): those whose names hold
    /// `transformer`, as in the reference; embeddings of tokens and places stay fresh, and so does what the
    /// source lacks. A `module.` in front of a name is passed over.
    ///
    /// # Errors
    /// If none of the names is one of the text tower's, a shape differs, or torch fails; nothing is copied
    /// then.
    pub fn init_text_encoder<'a>(
        &self,
        source: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    ) -> Result<TextInit> {
        let mut init = TextInit::default();
        let mut chosen: Vec<(&Tensor, &Tensor)> = Vec::new();
        let mut mismatched = LoadError::default();
        for (name, theirs) in source {
            let name = name.replace("module.", "");
            if !name.contains("transformer") {
                continue;
            }
            match self.registry.get(&name) {
                None => init.unknown.push(name),
                Some(ours) if ours.size() != theirs.size() => {
                    let sizes = (ours.size(), theirs.size());
                    mismatched.mismatched.push((name, sizes.0, sizes.1));
                }
                Some(ours) => {
                    chosen.push((ours, theirs));
                    init.loaded.push(name);
                }
            }
        }
        let ours = self.registry.entries().iter().map(|entry| &entry.name);
        let ours = ours.filter(|name| name.contains("transformer"));
        init.fresh = ours
            .filter(|name| !init.loaded.contains(name))
            .cloned()
            .collect();
        if !mismatched.mismatched.is_empty() {
            return Err(mismatched.into());
        }
        if chosen.is_empty() {
            return Err(Error::Dimensions(
                "model.init_text_encoder: the checkpoint holds no text tower, whose names begin with \
                 'transformer.resblocks.'"
                    .to_owned(),
            ));
        }
        let _guard = tch::no_grad_guard();
        for (ours, theirs) in chosen {
            ours.shallow_clone().f_copy_(theirs)?;
        }
        Ok(init)
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
