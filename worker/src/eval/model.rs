//! The trainer's own model and images, as this room asks for them.

use rocket_common::experiment::Precision;
use tch::{Device, Kind, Tensor};
use tch_distributed::device;

use super::classifier::{EncodeError, Encoder, Heads};
use super::set::{Decode, Source};
use crate::image;
use crate::model::{Encoded, Model};
use crate::text::Tokenizer;

impl Encoder for Model {
    fn encode_image(&self, images: &Tensor) -> Result<Heads, EncodeError> {
        Ok(Model::encode_image(self, images)?.into())
    }

    fn encode_text(&self, tokens: &Tensor) -> Result<Heads, EncodeError> {
        Ok(Model::encode_text(self, tokens)?.into())
    }

    fn device(&self) -> Device {
        self.registry()
            .entries()
            .first()
            .map_or(Device::Cpu, |entry| entry.tensor.device())
    }

    fn image_size(&self) -> usize {
        self.vision_size().image_size() as usize
    }
}

/// A model that computes in another type than its weights have, as autocast has it.
pub struct Autocast<'a> {
    /// The model.
    pub model: &'a Model,
    /// The type; `None` for that of the weights.
    pub kind: Option<Kind>,
}

impl Autocast<'_> {
    fn run(&self, work: impl FnOnce() -> Result<Heads, EncodeError>) -> Result<Heads, EncodeError> {
        match self.kind {
            None => work(),
            Some(kind) => tch_distributed::autocast(self.device(), kind, work)?,
        }
    }

    /// Features of the image tower `[B, F]`, before the projectors, of normalised images.
    ///
    /// # Errors
    /// Whatever stops the model.
    pub fn features(&self, images: &Tensor) -> Result<Tensor, EncodeError> {
        let encode = || Ok(Model::encode_image(self.model, images)?.feats);
        match self.kind {
            None => encode(),
            Some(kind) => tch_distributed::autocast(self.device(), kind, encode)?,
        }
    }

    /// A word for the embeddings that it computes: others come of another type or device.
    #[must_use]
    pub fn word(&self) -> String {
        let device = match self.device() {
            Device::Cpu => "cpu",
            _ => "cuda",
        };
        format!("{device} {:?}", self.kind.unwrap_or(Kind::Float))
    }
}

impl Encoder for Autocast<'_> {
    fn encode_image(&self, images: &Tensor) -> Result<Heads, EncodeError> {
        self.run(|| Encoder::encode_image(self.model, images))
    }

    fn encode_text(&self, tokens: &Tensor) -> Result<Heads, EncodeError> {
        self.run(|| Encoder::encode_text(self.model, tokens))
    }

    fn device(&self) -> Device {
        Encoder::device(self.model)
    }

    fn image_size(&self) -> usize {
        Encoder::image_size(self.model)
    }
}

/// The type that an evaluation computes in: by default bfloat16 on a GPU that has it (from compute
/// capability 8.0), float16 on an older one, and float32 on the CPU.
#[must_use]
pub fn kind(precision: Precision, device: Device) -> Option<Kind> {
    match (precision, device) {
        (Precision::Auto, Device::Cuda(index)) => match device::capability(index) {
            Ok(((major, _), _)) if major < 8 => Some(Kind::Half),
            _ => Some(Kind::BFloat16),
        },
        (Precision::Auto | Precision::Float32, _) => None,
        (Precision::Bf16, _) => Some(Kind::BFloat16),
        (Precision::Fp16, _) => Some(Kind::Half),
    }
}

impl From<Encoded> for Heads {
    fn from(encoded: Encoded) -> Self {
        Self {
            z: encoded.z,
            h: encoded.h,
        }
    }
}

/// Files of images, or their pixels, through the evaluation transform: shorter side to the model's image
/// size, the middle square, ImageNet's mean and deviation.
#[must_use]
pub fn decoder() -> Box<Decode> {
    Box::new(|source, side, out| {
        let decoded;
        let picture = match source {
            Source::Picture(picture) => picture,
            Source::File(bytes) => {
                decoded = image::decode(bytes).map_err(|error| error.to_string())?;
                &decoded
            }
        };
        image::normalize_into(&image::eval_picture(picture, side), out);
        Ok(())
    })
}

/// CLIP's tokenizer, rows of 77 ids.
pub fn tokenizer() -> impl Fn(&str) -> Vec<i64> {
    let tokenizer = Tokenizer::new();
    move |text| tokenizer.row(text).to_vec()
}
