//! What encoding a batch gives the loss.

use tch::Tensor;

use super::{Error, Result};

/// Embeddings of one rank's micro-batch, not normalised. B samples, E the embedding's width.
#[derive(Debug)]
pub struct Embeddings {
    /// Image features of the weak view, `[B, vision width]`.
    pub feats_image: Tensor,
    /// Text features of the global caption, `[B, text width]`.
    pub feats_text: Tensor,
    /// Image features of the A strong views.
    pub feats_image_local: Vec<Tensor>,
    /// Text features of the A augmented captions.
    pub feats_text_local: Vec<Tensor>,
    /// CLIP embedding of the weak view, `[B, E]`.
    pub z_image: Tensor,
    /// CLIP embedding of the global caption, `[B, E]`.
    pub z_text: Tensor,
    /// Embeddings of the strong views, each `[B, E]`.
    pub h_image_local: Vec<Tensor>,
    /// Embeddings of the augmented captions, each `[B, E]`.
    pub h_text_local: Vec<Tensor>,
    /// Factor of the global logits, a scalar.
    pub logit_scale: Tensor,
    /// Factor of the local logits, a scalar; the same tensor where views share their heads.
    pub h_logit_scale: Tensor,
    /// What the child's own loss takes.
    pub child: ChildEmbeddings,
}

/// One tensor `[B, D]` per view of both modalities: features, or embeddings of them.
#[derive(Debug)]
pub struct Views {
    /// Of the weak view.
    pub image: Tensor,
    /// Of the global caption.
    pub text: Tensor,
    /// Of the A strong views.
    pub image_local: Vec<Tensor>,
    /// Of the A augmented captions.
    pub text_local: Vec<Tensor>,
}

/// What a child's heads add. Nothing is normalised.
#[derive(Debug)]
pub enum ChildEmbeddings {
    /// Children CLIP, CL2L and SWALIP have no heads of their own.
    None,
    /// BARLIP.
    Barlip {
        /// Projections, `[B, barlip_proj_dim]`.
        v: Views,
    },
    /// SIAMLIP, or BYOLIP with targets.
    Siamlip {
        /// Projections, `[B, siamlip_proj_dim]`.
        v: Views,
        /// Predictions of the other modality's projections.
        p: Views,
        /// Projections by the momentum encoder, which then are the targets in place of `v`.
        targets: Option<Views>,
    },
    /// SWALIPV1.
    Prototypes {
        /// Cosines of images with the prototypes, `[B, swalip_num_proto]`.
        image: Tensor,
        /// Cosines of captions with the prototypes.
        text: Tensor,
        /// Cosines by the momentum encoder (image, text), which then make the targets.
        targets: Option<(Tensor, Tensor)>,
        /// Factor of the logits, a scalar.
        logit_scale: Tensor,
    },
}

/// What a momentum encoder gives a child's loss. No gradient flows into it, and nothing is normalised.
#[derive(Debug)]
pub enum Targets {
    /// SIAMLIP: projections.
    Siamlip(Views),
    /// SWALIPV1: cosines with the momentum encoder's own prototypes, `[B, swalip_num_proto]`.
    Prototypes {
        /// Of images.
        image: Tensor,
        /// Of captions.
        text: Tensor,
    },
}

impl Views {
    /// Every tensor under its name with a prefix and an ending, `v_image` or `v_image_local_momentum.0`.
    fn named(&self, prefix: &str, ending: &str) -> Vec<(String, &Tensor)> {
        let mut all = vec![
            (format!("{prefix}_image{ending}"), &self.image),
            (format!("{prefix}_text{ending}"), &self.text),
        ];
        for (name, views) in [("image", &self.image_local), ("text", &self.text_local)] {
            for (i, view) in views.iter().enumerate() {
                all.push((format!("{prefix}_{name}_local{ending}.{i}"), view));
            }
        }
        all
    }
}

impl ChildEmbeddings {
    fn named(&self) -> Vec<(String, &Tensor)> {
        match self {
            Self::None => Vec::new(),
            Self::Barlip { v } => v.named("v", ""),
            Self::Siamlip { v, p, targets } => {
                let mut all = v.named("v", "");
                all.extend(p.named("p", ""));
                if let Some(targets) = targets {
                    all.extend(targets.named("v", "_momentum"));
                }
                all
            }
            Self::Prototypes {
                image,
                text,
                targets,
                logit_scale,
            } => {
                let mut all = vec![
                    ("p_image".to_owned(), image),
                    ("p_text".to_owned(), text),
                    ("swalip_logit_scale".to_owned(), logit_scale),
                ];
                if let Some((image, text)) = targets {
                    all.push(("p_image_momentum".to_owned(), image));
                    all.push(("p_text_momentum".to_owned(), text));
                }
                all
            }
        }
    }
}

impl Embeddings {
    /// The same with the targets of a momentum encoder, which must be of the same child.
    ///
    /// # Errors
    /// If the child is another, or takes no targets.
    pub fn with_targets(mut self, given: Targets) -> Result<Self> {
        match (&mut self.child, given) {
            (ChildEmbeddings::Siamlip { targets, .. }, Targets::Siamlip(views)) => {
                *targets = Some(views);
            }
            (ChildEmbeddings::Prototypes { targets, .. }, Targets::Prototypes { image, text }) => {
                *targets = Some((image, text));
            }
            _ => {
                return Err(Error::Dimensions(
                    "targets of a momentum encoder go with the embeddings of the same child, SIAMLIP or \
                     SWALIPV1"
                        .to_owned(),
                ));
            }
        }
        Ok(self)
    }

    /// Every tensor under the reference's output name, for comparing and recording.
    #[must_use]
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        let mut all: Vec<(String, &Tensor)> = vec![
            ("feats_image".into(), &self.feats_image),
            ("feats_text".into(), &self.feats_text),
            ("z_image_global".into(), &self.z_image),
            ("z_text_global".into(), &self.z_text),
            ("logit_scale".into(), &self.logit_scale),
            ("h_logit_scale".into(), &self.h_logit_scale),
        ];
        let lists = [
            ("feats_image_local", &self.feats_image_local),
            ("feats_text_local", &self.feats_text_local),
            ("h_image_local", &self.h_image_local),
            ("h_text_local", &self.h_text_local),
        ];
        for (name, views) in lists {
            all.extend(
                views
                    .iter()
                    .enumerate()
                    .map(|(i, view)| (format!("{name}.{i}"), view)),
            );
        }
        all.extend(self.child.named());
        all
    }
}

/// Embeddings of one modality for zero-shot evaluation, not normalised.
#[derive(Debug)]
pub struct Encoded {
    /// Features of the tower, `[N, width]`.
    pub feats: Tensor,
    /// CLIP embedding, `[N, E]`.
    pub z: Tensor,
    /// CL2L embedding, `[N, E]`; the CLIP head's where views share their heads, none for child CLIP.
    pub h: Option<Tensor>,
}
