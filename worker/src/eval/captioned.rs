//! Images with several captions each, from the files that the field scores retrieval on: COCO's captions
//! (`captions_val2017.json`) and Karpathy's splits (`dataset_flickr30k.json`, `dataset_coco.json`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::set::{Decode, Samples, read_pixels};
use super::{EvalError, json};

/// A set of captioned images.
pub struct Captioned {
    /// The images, each of them once.
    pub images: Vec<PathBuf>,
    /// All captions, those of one image after those of the one before.
    pub texts: Vec<String>,
    /// Index of each caption's image.
    pub image_of: Vec<usize>,
    decode: Box<Decode>,
}

/// What is taken of a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// Split of Karpathy's files; `test` if absent.
    pub split: Option<&'a str>,
    /// At most so many captions of each image, the first ones; all if absent. (COCO has five for most
    /// images and up to seven for some; figures over five and over all are both published.)
    pub captions_per_image: Option<usize>,
}

/// Either form, told apart by what images and the file hold.
#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Option<Vec<Annotation>>,
}

#[derive(Deserialize)]
struct Image {
    // COCO.
    id: Option<u64>,
    file_name: Option<String>,
    // Karpathy.
    filename: Option<String>,
    filepath: Option<String>,
    split: Option<String>,
    sentences: Option<Vec<Sentence>>,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    caption: String,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

impl Captioned {
    /// Reads a file of captions; `root` is the folder of its images.
    ///
    /// # Errors
    /// The file is of neither form, an image in it has no caption or is not there, or the split is empty.
    pub fn open(
        file: &Path,
        root: &Path,
        choice: &Choice<'_>,
        decode: Box<Decode>,
    ) -> Result<Self, EvalError> {
        let parsed: File = json::read(file)?;
        let wrong = |problem: String| EvalError::Form {
            file: file.to_owned(),
            problems: vec![problem],
        };
        let listed = match parsed.annotations {
            Some(annotations) => of_coco(parsed.images, annotations, choice),
            None => of_karpathy(parsed.images, choice),
        }
        .map_err(wrong)?;
        let mut this = Self {
            images: Vec::new(),
            texts: Vec::new(),
            image_of: Vec::new(),
            decode,
        };
        let most = choice.captions_per_image.unwrap_or(usize::MAX);
        let mut bare = Vec::new();
        for (name, captions) in listed {
            let path = root.join(&name);
            if captions.is_empty() {
                bare.push(format!("image '{}' has no caption", name.display()));
            }
            for caption in captions.into_iter().take(most) {
                this.texts.push(caption);
                this.image_of.push(this.images.len());
            }
            this.images.push(path);
        }
        if let Some(first) = bare.first() {
            let more = match bare.len() {
                1 => String::new(),
                n => format!(", nor have {} others", n - 1),
            };
            return Err(wrong(format!(
                "{first}{more}; an image without one cannot be found by text, take it out"
            )));
        }
        let missing: Vec<&PathBuf> = this.images.iter().filter(|path| !path.is_file()).collect();
        if let Some(first) = missing.first() {
            return Err(EvalError::Image {
                path: (*first).clone(),
                cause: format!(
                    "it is not there, as are {} of {} images of {}; is --images the right folder",
                    missing.len(),
                    this.images.len(),
                    file.display()
                ),
            });
        }
        Ok(this)
    }

    /// Indices of an image's captions, which follow each other.
    #[must_use]
    pub fn captions_of(&self) -> Vec<std::ops::Range<usize>> {
        let mut ranges: Vec<std::ops::Range<usize>> = vec![0..0; self.images.len()];
        for (text, &image) in self.image_of.iter().enumerate() {
            let range = &mut ranges[image];
            if range.end == 0 {
                range.start = text;
            }
            range.end = text + 1;
        }
        ranges
    }
}

type Listed = Vec<(PathBuf, Vec<String>)>;

fn of_coco(
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    choice: &Choice<'_>,
) -> Result<Listed, String> {
    if let Some(split) = choice.split {
        return Err(format!(
            "COCO's captions have no splits within a file, and '{split}' was asked for; leave --split out"
        ));
    }
    let mut captions: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for Annotation { image_id, caption } in annotations {
        captions.entry(image_id).or_default().push(caption);
    }
    let mut listed = Vec::new();
    for (index, image) in images.into_iter().enumerate() {
        let (Some(id), Some(name)) = (image.id, image.file_name) else {
            return Err(format!("images[{index}] lacks 'id' or 'file_name'"));
        };
        listed.push((
            PathBuf::from(name),
            captions.remove(&id).unwrap_or_default(),
        ));
    }
    match captions.keys().next() {
        Some(id) => Err(format!(
            "annotations are of image {id}, which 'images' does not list"
        )),
        None if listed.is_empty() => Err("'images' is empty".to_owned()),
        None => Ok(listed),
    }
}

fn of_karpathy(images: Vec<Image>, choice: &Choice<'_>) -> Result<Listed, String> {
    let split = choice.split.unwrap_or("test");
    let mut listed = Vec::new();
    let mut splits: Vec<String> = Vec::new();
    for (index, image) in images.into_iter().enumerate() {
        let (Some(name), Some(of), Some(sentences)) =
            (image.filename, image.split, image.sentences)
        else {
            return Err(format!(
                "images[{index}] lacks 'filename', 'split' or 'sentences', and the file has no 'annotations': it is neither Karpathy's form nor COCO's"
            ));
        };
        if of == split {
            let path = Path::new(image.filepath.as_deref().unwrap_or("")).join(name);
            listed.push((path, sentences.into_iter().map(|s| s.raw).collect()));
        }
        if !splits.contains(&of) {
            splits.push(of);
        }
    }
    if listed.is_empty() {
        return Err(format!(
            "it has no image of split '{split}'; its splits are {}",
            super::error::some_of(&splits)
        ));
    }
    Ok(listed)
}

impl Samples for Captioned {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn target(&self, index: usize) -> usize {
        index
    }

    fn pixels(&self, index: usize, side: usize, out: &mut [f32]) -> Result<(), EvalError> {
        read_pixels(&self.images[index], &*self.decode, side, out)
    }
}
