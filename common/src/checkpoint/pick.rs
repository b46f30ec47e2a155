//! The checkpoint that a person means: `best`, `last`, a step, or a directory.

use std::path::Path;

use super::retention::BEST_METRIC;
use super::store::{Checkpoint, list, open};
use crate::error::{Error, Result};
use crate::exit::ExitKind;

/// Reads a checkpoint so far as the caller needs it: [`open`] or [`super::verify`].
pub type Reader = fn(&Path) -> Result<Checkpoint>;

/// Finds the checkpoint that `wish` means in a folder of checkpoints. What is damaged is passed over
/// where it was not named, and told to `warn`, as is a `best` for which no checkpoint has a score.
///
/// # Errors
/// Kind [`ExitKind::Usage`] with the steps that there are, or [`ExitKind::Checkpoint`] if none is good.
pub fn pick(
    checkpoints: &Path,
    wish: &str,
    reader: Reader,
    warn: &mut dyn FnMut(String),
) -> Result<Checkpoint> {
    if let Ok(step) = wish.parse::<u64>() {
        let path = checkpoints.join(super::dir_name(step));
        if path.is_dir() {
            return reader(&path);
        }
        return Err(Error::new(
            ExitKind::Usage,
            format!("the run has no checkpoint of step {step}"),
        )
        .hint(known_steps(checkpoints)?));
    }
    match wish {
        "last" => last(checkpoints, reader, warn),
        "best" => best(checkpoints, reader, warn),
        path if Path::new(path).is_dir() => {
            let path = Path::new(path);
            let path = std::path::absolute(path).map_err(|error| Error::io("find", path, error))?;
            reader(&path)
        }
        other => Err(Error::new(
            ExitKind::Usage,
            format!("--checkpoint '{other}' is neither 'best', 'last', a step, nor a directory"),
        )
        .hint(known_steps(checkpoints)?)),
    }
}

fn last(checkpoints: &Path, reader: Reader, warn: &mut dyn FnMut(String)) -> Result<Checkpoint> {
    for (_, dir) in list(checkpoints)? {
        match reader(&dir) {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(error) => {
                let name = dir.file_name().unwrap_or_default().to_string_lossy();
                warn(format!("{name} is passed over: {error}"));
            }
        }
    }
    Err(Error::new(
        ExitKind::Checkpoint,
        format!("there is no good checkpoint in '{}'", checkpoints.display()),
    )
    .hint("the run saves one every train.checkpoint_every and at its end"))
}

/// The good checkpoint with the highest score; of equal ones the later; the last if none has one.
fn best(checkpoints: &Path, reader: Reader, warn: &mut dyn FnMut(String)) -> Result<Checkpoint> {
    let mut scored = Vec::new();
    for (step, path) in list(checkpoints)? {
        match open(&path) {
            Ok(checkpoint) => {
                let score = checkpoint.manifest().info.metrics.get(BEST_METRIC).copied();
                scored.extend(score.map(|score| (score, step, path)));
            }
            Err(error) => warn(error.to_string()),
        }
    }
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    for (_, _, path) in &scored {
        match reader(path) {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(error) => warn(error.to_string()),
        }
    }
    if !list(checkpoints)?.is_empty() {
        warn("no good checkpoint has a score, so the last one is taken".to_owned());
    }
    last(checkpoints, reader, warn)
}

fn known_steps(checkpoints: &Path) -> Result<String> {
    let steps: Vec<String> = list(checkpoints)?
        .iter()
        .map(|(step, _)| step.to_string())
        .collect();
    Ok(if steps.is_empty() {
        "it has no checkpoint yet".to_owned()
    } else {
        format!("it has those of steps {}", steps.join(", "))
    })
}
