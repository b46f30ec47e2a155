//! What encoding a batch gives the loss.

use tch::Tensor;

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

/// One embedding `[B, E]` per view of both modalities.
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

impl Embeddings {
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
