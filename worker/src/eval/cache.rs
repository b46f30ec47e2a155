//! Class embeddings on the disk: computed once per (weights, prompts, precision), whoever needs them.
//!
//! A file is written aside and renamed, so that of many writers one wins and readers see a whole one; all
//! of them hold the same values. A file that cannot be read is as good as none.

use std::ops::ControlFlow;
use std::path::PathBuf;

use rocket_common::atomic;
use rocket_common::checkpoint::sha256_hex;
use tch::{Kind, Tensor};

use super::classifier::{Classifier, Encoder, Tokenize};
use super::{EvalError, EvalSet, Shard};
use crate::checkpoint::tensors;

/// Counts changes of how class embeddings are made.
const VERSION: u32 = 1;

/// A folder of class embeddings of one model.
#[derive(Debug, Clone)]
pub struct ClassifierCache {
    dir: PathBuf,
    model: String,
}

impl ClassifierCache {
    /// Of a model whose weights have the hash `weights`, computing as `precision` says (a word that
    /// differs where the embeddings do).
    #[must_use]
    pub fn new(dir: PathBuf, weights: &str, precision: &str) -> Self {
        Self {
            dir,
            model: format!("{VERSION} {weights} {precision}"),
        }
    }

    /// The class embeddings of a set, from the folder or computed and kept there. Rank 0 reads and
    /// writes for all ranks of `shard`.
    ///
    /// # Errors
    /// As [`Classifier::new`]. A folder that cannot be written is told and is no error.
    pub fn classifier(
        &self,
        encoder: &dyn Encoder,
        set: &EvalSet,
        tokenize: &Tokenize,
        text_batch: usize,
        shard: &Shard,
        progress: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Classifier, EvalError> {
        let path = self.path(set);
        let kept = shard.is_lead().then(|| read(&path, set)).flatten();
        if let Some(found) = share(kept.as_ref(), encoder, set, shard)? {
            return Ok(found);
        }
        let (prompts, name) = (&set.prompts, &set.name);
        let made = Classifier::new(
            encoder, prompts, tokenize, text_batch, shard, name, progress,
        )?;
        if shard.is_lead()
            && let Err(error) = write(&path, &made)
        {
            tracing::warn!("the class embeddings of '{name}' are not kept: {error:#}");
        }
        Ok(made)
    }

    fn path(&self, set: &EvalSet) -> PathBuf {
        let mut key = self.model.clone();
        for class in &set.prompts.by_class {
            key.push('\n');
            // Lengths keep ["a", "b"] and ["a\nb"] apart.
            for text in class {
                key.push_str(&format!(" {}:{text}", text.len()));
            }
        }
        let key = sha256_hex(key.as_bytes());
        self.dir
            .join(format!("{}-{}.safetensors", set.name, &key[..32]))
    }
}

/// What lead 0 read, on every rank; `None` if it read nothing.
fn share(
    kept: Option<&Classifier>,
    encoder: &dyn Encoder,
    set: &EvalSet,
    shard: &Shard,
) -> Result<Option<Classifier>, EvalError> {
    let device = encoder.device();
    let table = kept.map(|kept| kept.table().to_device(device));
    let width = table.as_ref().map_or(0, |table| table.size()[1]);
    let has_h = i64::from(kept.is_some_and(|kept| kept.h.is_some()));
    let said = Tensor::from_slice(&[width, has_h]).to_device(device);
    let said = shard.sum(said, &set.name)?;
    let (width, has_h) = (said.int64_value(&[0]), said.int64_value(&[1]) == 1);
    if width == 0 {
        return Ok(None);
    }
    let classes = set.prompts.by_class.len() as i64;
    let table = table.unwrap_or_else(|| Tensor::zeros([classes, width], (Kind::Float, device)));
    let table = shard.sum(table, &set.name)?;
    Ok(Some(Classifier::of_table(&table, has_h)))
}

fn read(path: &std::path::Path, set: &EvalSet) -> Option<Classifier> {
    if !path.is_file() {
        return None;
    }
    let fits = |tensor: &Tensor| {
        tensor.kind() == Kind::Float
            && tensor.dim() == 2
            && tensor.size()[0] == set.prompts.by_class.len() as i64
    };
    let read = tensors::load(path).map(|mut found| Classifier {
        z: found.remove("z").unwrap_or_default(),
        h: found.remove("h"),
    });
    match read {
        Ok(found) if fits(&found.z) && found.h.as_ref().is_none_or(fits) => {
            found.check(&set.name).ok().map(|()| found)
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!("{} is computed anew: {error:#}", path.display());
            None
        }
    }
}

fn write(path: &std::path::Path, made: &Classifier) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let aside = path.with_extension(format!("tmp-{}", atomic::unique()));
    let mut heads = vec![("z".to_owned(), made.z.shallow_clone())];
    heads.extend(made.h.as_ref().map(|h| ("h".to_owned(), h.shallow_clone())));
    let written = tensors::save(&aside, &heads)
        .and_then(|()| std::fs::rename(&aside, path).map_err(anyhow::Error::from));
    if written.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    written
}
