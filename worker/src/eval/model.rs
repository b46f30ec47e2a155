//! The trainer's own model and images, as this room asks for them.

use tch::{Device, Tensor};

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
