//! CC3M and CC12M: an npy file of dicts and one folder of images.

use std::path::{Component, Path, PathBuf};

use super::{Place, Source, SourceError, read_file};
use crate::data::npy::{NpyError, object_pickle};
use crate::data::pickle::{Node, Pickle, Value};

/// Conceptual Captions as the reference stores them: dicts with the image's file name (under
/// `image_id` in CC3M, `image_name` in CC12M) and `captions`, a list of text.
pub struct ConceptualCaptions {
    root: PathBuf,
    /// All names and captions, one after the other.
    text: String,
    /// Where each text ends in `text`.
    ends: Vec<usize>,
    /// First text of each sample (its name; captions follow), and one past the last.
    starts: Vec<usize>,
}

impl ConceptualCaptions {
    /// Reads the metadata; images are opened when they are needed.
    ///
    /// # Errors
    /// [`SourceError`] that names the file and the sample.
    pub fn open(metadata: &Path, root: &Path, key: &'static str) -> Result<Self, SourceError> {
        let file = read_file(metadata)?;
        let npy = |cause: NpyError| SourceError::Npy {
            file: metadata.to_owned(),
            cause,
        };
        let pickle =
            Pickle::read(object_pickle(&file).map_err(npy)?).map_err(|cause| npy(cause.into()))?;
        let samples = pickle
            .items(pickle.root())
            .ok_or_else(|| npy(NpyError::Header("of an array of more than one axis".into())))?;
        if samples.is_empty() {
            return Err(SourceError::Empty {
                file: metadata.to_owned(),
            });
        }
        if !root.is_dir() {
            return Err(SourceError::NoFolder {
                folder: root.to_owned(),
            });
        }
        let mut source = Self {
            root: root.to_owned(),
            text: String::new(),
            ends: Vec::new(),
            starts: Vec::with_capacity(samples.len() + 1),
        };
        for (sample, &node) in samples.iter().enumerate() {
            source
                .add(&pickle, node, key)
                .map_err(|what| SourceError::Sample {
                    file: metadata.to_owned(),
                    sample,
                    what,
                })?;
        }
        source.starts.push(source.ends.len());
        source.text.shrink_to_fit();
        source.ends.shrink_to_fit();
        Ok(source)
    }

    fn add(&mut self, pickle: &Pickle<'_>, node: Node, key: &str) -> Result<(), String> {
        if !matches!(pickle.value(node), Value::Dict(_)) {
            return Err("is no dict".into());
        }
        let name = pickle
            .get(node, key)
            .ok_or_else(|| format!("has no '{key}'"))?;
        let name = match (pickle.text(name), pickle.value(name)) {
            (Some(text), _) => text.to_owned(),
            // The reference turns whatever the id is into text.
            (None, Value::Int(number)) => number.to_string(),
            _ => return Err(format!("'{key}' is neither text nor a whole number")),
        };
        check_name(&name)?;
        let captions = pickle
            .get(node, "captions")
            .ok_or_else(|| "has no 'captions'".to_owned())?;
        self.starts.push(self.ends.len());
        self.push(&name);
        let before = self.ends.len();
        if let Some(caption) = pickle.text(captions) {
            self.push(caption);
        } else {
            let captions = pickle
                .items(captions)
                .ok_or("'captions' is neither a list of text nor text")?;
            for &caption in captions {
                let caption = pickle
                    .text(caption)
                    .ok_or("'captions' holds something that is no text")?;
                self.push(caption);
            }
        }
        if self.ends.len() == before {
            self.push("");
        }
        Ok(())
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    fn at(&self, text: usize) -> &str {
        let start = if text == 0 { 0 } else { self.ends[text - 1] };
        &self.text[start..self.ends[text]]
    }
}

/// Names come from a file that others wrote: they must stay inside of the folder.
fn check_name(name: &str) -> Result<(), String> {
    let inside = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if name.is_empty() || name.contains('\0') || !inside {
        return Err(format!(
            "the image's name '{}' leads out of the folder",
            name.escape_debug()
        ));
    }
    Ok(())
}

impl Source for ConceptualCaptions {
    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn captions(&self, sample: usize) -> Vec<&str> {
        (self.starts[sample] + 1..self.starts[sample + 1])
            .map(|text| self.at(text))
            .collect()
    }

    fn place(&self, sample: usize) -> Place {
        Place {
            file: self.root.join(self.at(self.starts[sample])),
            range: None,
        }
    }

    fn name(&self, sample: usize) -> String {
        self.at(self.starts[sample]).to_owned()
    }
}
