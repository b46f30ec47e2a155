//! Heads of the children beside CL2L (arXiv 2305.08675): Barlow Twins, SimSiam or BYOL, and learnt
//! prototypes, each between images and captions.

use std::rc::Rc;

use rocket_common::experiment::{Child, Model as Spec};
use tch::{Kind, Tensor};

use super::Result;
use super::batch_norm::{BatchNorm, SyncGroup};
use super::builder::{Init, Scope};
use super::embeddings::{ChildEmbeddings, Targets, Views};
use super::features::Features;
use super::heads::{Stack, Step};
use super::layers::Linear;
use super::pass::Pass;
use super::trace;

/// A head: layers that views may share, and a last batch norm that they do not.
#[derive(Debug)]
struct Head {
    body: Rc<Stack>,
    last: Option<BatchNorm>,
}

impl Head {
    /// A head whose layers are all its own.
    fn new(scope: &Scope, input: i64, steps: &[Step], group: &SyncGroup) -> Result<Self> {
        Ok(Self {
            body: Rc::new(Stack::new(scope, input, steps, group)?),
            last: None,
        })
    }

    /// The same layers under a second name.
    fn tied(&self, root: &Scope, later: &str, first: &str) -> Self {
        root.alias(later, first);
        Self {
            body: Rc::clone(&self.body),
            last: None,
        }
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let x = self.body.forward(x, pass)?;
        match &self.last {
            Some(norm) => norm.forward(&x, pass),
            None => Ok(x),
        }
    }
}

/// Heads of both modalities, for the global views and for the augmented ones.
#[derive(Debug)]
pub(super) struct Heads {
    image: Head,
    text: Head,
    image_local: Head,
    text_local: Head,
}

impl Heads {
    /// Builds the four in the reference's order: image, text, and the same for augmented views.
    /// Without `separate` the augmented views share what `build` makes for the global ones.
    fn new(
        root: &Scope,
        names: [&str; 2],
        separate: bool,
        build: impl Fn(&Scope, &str, i64) -> Result<Head>,
        widths: [i64; 2],
    ) -> Result<Self> {
        let full = |which: usize, views: &str| format!("{}_{views}", names[which]);
        let image = build(root, &full(0, "global"), widths[0])?;
        let text = build(root, &full(1, "global"), widths[1])?;
        let local = |which: usize, global: &Head| {
            let name = full(which, "local");
            if separate {
                build(root, &name, widths[which])
            } else {
                Ok(global.tied(root, &name, &full(which, "global")))
            }
        };
        let image_local = local(0, &image)?;
        let text_local = local(1, &text)?;
        Ok(Self {
            image,
            text,
            image_local,
            text_local,
        })
    }

    /// Each view by itself, as its batch norms have statistics of its own.
    fn forward(&self, inputs: &Views, pass: Pass) -> Result<Views> {
        let all = |head: &Head, views: &[Tensor]| -> Result<Vec<Tensor>> {
            views.iter().map(|view| head.forward(view, pass)).collect()
        };
        Ok(Views {
            image: self.image.forward(&inputs.image, pass)?,
            text: self.text.forward(&inputs.text, pass)?,
            image_local: all(&self.image_local, &inputs.image_local)?,
            text_local: all(&self.text_local, &inputs.text_local)?,
        })
    }
}

/// A linear layer whose rows have length one (weight norm with a gain of 1 that is not trained).
#[derive(Debug)]
struct Prototypes {
    gain: Tensor,
    direction: Tensor,
}

impl Prototypes {
    fn new(scope: &Scope, [input, count]: [i64; 2]) -> Result<Self> {
        Ok(Self {
            gain: scope.frozen("weight_g", &[count, 1], Init::Const(1.0))?,
            direction: scope.param("weight_v", &[count, input], Linear::torch_default(input))?,
        })
    }

    fn tied(&self) -> Self {
        Self {
            gain: self.gain.shallow_clone(),
            direction: self.direction.shallow_clone(),
        }
    }

    /// Cosines of `[N, input]` with the prototypes, `[N, count]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let x = match kind {
            Kind::Half | Kind::BFloat16 => x.f_to_kind(Kind::Float)?,
            _ => x.shallow_clone(),
        };
        let length = x.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?;
        let unit = x.f_div(&length.f_clamp_min(1e-12)?)?;
        let weight = Tensor::f_internal_weight_norm(&self.direction, &self.gain, 0)?;
        Ok(unit.f_linear(&weight, None::<&Tensor>)?)
    }
}

/// SimSiam: projectors, and predictors of the other modality's projection.
#[derive(Debug)]
pub(super) struct Siamlip {
    projectors: Heads,
    predictors: Heads,
}

impl Siamlip {
    fn new(root: &Scope, spec: &Spec, widths: [i64; 2], group: &SyncGroup) -> Result<Self> {
        let (hidden, output) = (spec.siamlip_hidden_dim, spec.siamlip_proj_dim);
        let projector = [
            Step::Linear(hidden, false),
            Step::NormRelu,
            Step::Linear(output, false),
        ];
        let separate = spec.separate_proj_child;
        let names = ["siamlip_image_projector", "siamlip_text_projector"];
        let projectors = if spec.siamlip_no_last_bn {
            let build = |root: &Scope, name: &str, input| {
                Head::new(&root.sub(name), input, &projector, group)
            };
            Heads::new(root, names, separate, build, widths)?
        } else {
            // The layers move down by one level, and every head gets a batch norm of its own.
            let ending = |head: Head, name: &str| -> Result<Head> {
                let last = BatchNorm::plain(&root.sub(name).sub(1), output, group)?;
                Ok(Head {
                    last: Some(last),
                    ..head
                })
            };
            let own = |name: &str, input| {
                let head = Head::new(&root.sub(name).sub(0), input, &projector, group)?;
                ending(head, name)
            };
            let [image, text] = ["image", "text"].map(|it| format!("siamlip_{it}_projector"));
            let full = |name: &str, views: &str| format!("{name}_{views}");
            let global = [
                own(&full(&image, "global"), widths[0])?,
                own(&full(&text, "global"), widths[1])?,
            ];
            let local = |which: usize, name: &str| {
                let later = full(name, "local");
                if separate {
                    return own(&later, widths[which]);
                }
                let first = full(name, "global");
                let tied = global[which].tied(root, &format!("{later}.0"), &format!("{first}.0"));
                ending(tied, &later)
            };
            let (image_local, text_local) = (local(0, &image)?, local(1, &text)?);
            let [image, text] = global;
            Heads {
                image,
                text,
                image_local,
                text_local,
            }
        };
        let predictor = [
            Step::Linear(hidden, false),
            Step::NormRelu,
            Step::Linear(output, true),
        ];
        let build =
            |root: &Scope, name: &str, input| Head::new(&root.sub(name), input, &predictor, group);
        let names = ["image_text_predictor", "text_image_predictor"];
        let predictors = Heads::new(root, names, separate, build, [output; 2])?;
        Ok(Self {
            projectors,
            predictors,
        })
    }
}

/// SwAV with learnt prototypes.
#[derive(Debug)]
pub(super) struct Swalip {
    image: Stack,
    text: Stack,
    image_prototypes: Prototypes,
    text_prototypes: Prototypes,
    logit_scale: Tensor,
}

impl Swalip {
    fn new(
        root: &Scope,
        spec: &Spec,
        widths: [i64; 2],
        logit_scale: Tensor,
        group: &SyncGroup,
    ) -> Result<Self> {
        let steps = [
            Step::Linear(spec.swalip_hidden_dim, true),
            Step::NormRelu,
            Step::Linear(spec.swalip_proj_dim, true),
        ];
        let image = Stack::new(
            &root.sub("swalip_image_projector"),
            widths[0],
            &steps,
            group,
        )?;
        let text = Stack::new(&root.sub("swalip_text_projector"), widths[1], &steps, group)?;
        let sizes = [spec.swalip_proj_dim, spec.swalip_num_proto];
        let image_prototypes = Prototypes::new(&root.sub("image_prototypes"), sizes)?;
        let text_prototypes = if spec.swalip_no_shared_proto {
            Prototypes::new(&root.sub("text_prototypes"), sizes)?
        } else {
            root.alias("text_prototypes", "image_prototypes");
            image_prototypes.tied()
        };
        Ok(Self {
            image,
            text,
            image_prototypes,
            text_prototypes,
            logit_scale,
        })
    }

    fn cosines(&self, features: &Features, pass: Pass) -> Result<(Tensor, Tensor)> {
        let image = self.image.forward(&features.image, pass)?;
        let text = self.text.forward(&features.text, pass)?;
        trace::layer(|| "swalip_image_projector".to_owned(), &image);
        trace::layer(|| "swalip_text_projector".to_owned(), &text);
        Ok((
            self.image_prototypes.forward(&image)?,
            self.text_prototypes.forward(&text)?,
        ))
    }
}

/// What a child adds to the model.
#[derive(Debug)]
pub(super) enum ChildHeads {
    /// Children CLIP, CL2L and SWALIP have no heads of their own.
    None,
    Barlip(Box<Heads>),
    Siamlip(Box<Siamlip>),
    Prototypes(Box<Swalip>),
}

impl ChildHeads {
    /// Registers SWALIPV1's scale, which stands among the model's first tensors.
    pub(super) fn scale(root: &Scope, spec: &Spec) -> Result<Option<Tensor>> {
        if spec.child != Some(Child::Swalipv1) {
            return Ok(None);
        }
        let init = Init::Const((1.0 / spec.swalip_temperature).ln());
        let name = "swalip_logit_scale";
        Ok(Some(if spec.swalip_learn_temperature {
            root.param(name, &[], init)?
        } else {
            root.frozen(name, &[], init)?
        }))
    }

    /// Registers the child's heads; they come last. `widths` are those of the towers' features (image,
    /// text), `scale` what [`ChildHeads::scale`] gave.
    pub(super) fn new(
        root: &Scope,
        spec: &Spec,
        widths: [i64; 2],
        scale: Option<Tensor>,
        group: &SyncGroup,
    ) -> Result<Self> {
        Ok(match (spec.child, scale) {
            (Some(Child::Barlip), _) => {
                let (hidden, output) = (spec.barlip_hidden_dim, spec.barlip_proj_dim);
                let steps = [
                    Step::Linear(hidden, true),
                    Step::NormRelu,
                    Step::Linear(hidden, true),
                    Step::NormRelu,
                    Step::Linear(output, true),
                    Step::Norm,
                ];
                let build = |root: &Scope, name: &str, input| {
                    Head::new(&root.sub(name), input, &steps, group)
                };
                let names = ["barlip_image_projector", "barlip_text_projector"];
                let separate = spec.separate_proj_child;
                Self::Barlip(Box::new(Heads::new(root, names, separate, build, widths)?))
            }
            (Some(Child::Siamlip), _) => {
                Self::Siamlip(Box::new(Siamlip::new(root, spec, widths, group)?))
            }
            (Some(Child::Swalipv1), Some(scale)) => {
                Self::Prototypes(Box::new(Swalip::new(root, spec, widths, scale, group)?))
            }
            _ => Self::None,
        })
    }

    /// Prefixes of the parameters that only augmented views reach.
    pub(super) const LOCAL: [&'static str; 6] = [
        "barlip_image_projector_local.",
        "barlip_text_projector_local.",
        "siamlip_image_projector_local.",
        "siamlip_text_projector_local.",
        "image_text_predictor_local.",
        "text_image_predictor_local.",
    ];

    /// What the child's loss takes.
    pub(super) fn forward(&self, features: &Features, pass: Pass) -> Result<ChildEmbeddings> {
        Ok(match self {
            Self::None => ChildEmbeddings::None,
            Self::Barlip(heads) => ChildEmbeddings::Barlip {
                v: heads.forward(features, pass)?,
            },
            Self::Siamlip(heads) => {
                let v = heads.projectors.forward(features, pass)?;
                let p = heads.predictors.forward(&v, pass)?;
                ChildEmbeddings::Siamlip {
                    v,
                    p,
                    targets: None,
                }
            }
            Self::Prototypes(heads) => {
                let (image, text) = heads.cosines(features, pass)?;
                ChildEmbeddings::Prototypes {
                    image,
                    text,
                    targets: None,
                    logit_scale: heads.logit_scale.f_exp()?,
                }
            }
        })
    }

    /// What a momentum encoder gives the child's loss; `None` for a child without targets.
    pub(super) fn targets(&self, features: &Features, pass: Pass) -> Result<Option<Targets>> {
        Ok(match self {
            Self::None | Self::Barlip(_) => None,
            Self::Siamlip(heads) => {
                Some(Targets::Siamlip(heads.projectors.forward(features, pass)?))
            }
            Self::Prototypes(heads) => {
                let (image, text) = heads.cosines(features, pass)?;
                Some(Targets::Prototypes { image, text })
            }
        })
    }
}
