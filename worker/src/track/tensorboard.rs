//! TensorBoard: event files in the run directory's `tb/`, one for each time that it is opened.
//!
//! A file is never written to again after a failure or a kill. The next one begins with the step from
//! which it goes on, at which TensorBoard drops what earlier files have: nothing is there twice, whatever
//! of them reached the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rocket_common::host;
use serde_json::Value;

use super::event_file::EventFile;
use super::records::{Position, Record};
use super::sink::{Ending, Saved, Sink, Start};
use super::story::Story;

/// How names of event files begin; TensorBoard reads them in the order of their names.
const PREFIX: &str = "events.out.tfevents.";

/// TensorBoard's event files of a run.
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    story: Story,
    file: Option<EventFile>,
    /// Step of the last record that was written, from which the next file goes on.
    last: Position,
}

impl TensorBoard {
    /// The files of a run; nothing is written yet.
    #[must_use]
    pub fn new(story: &Story) -> Self {
        Self {
            folder: story.run.path().join("tb"),
            story: story.clone(),
            file: None,
            last: Position::default(),
        }
    }

    /// A name that comes after all others, in whichever order attempts find the time.
    fn next_name(&self) -> Result<(PathBuf, bool)> {
        let mut newest = None;
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let seconds = name.to_str().and_then(|name| {
                let (seconds, _) = name.strip_prefix(PREFIX)?.split_once('.')?;
                seconds.parse::<u64>().ok()
            });
            newest = newest.max(seconds);
        }
        let now = now() as u64;
        let seconds = newest.map_or(now, |newest| now.max(newest + 1));
        let name = format!(
            "{PREFIX}{seconds:010}.{}.{}",
            host::name(),
            std::process::id()
        );
        Ok((self.folder.join(name), newest.is_some()))
    }

    fn introduction(&self) -> String {
        let facts = self.story.facts().into_iter();
        let facts: Vec<String> = facts
            .map(|(name, value)| format!("| {name} | `{value}` |"))
            .collect();
        // Four blanks in front make a block of code in Markdown.
        let yaml: Vec<String> = self
            .story
            .yaml
            .lines()
            .map(|line| format!("    {line}"))
            .collect();
        format!(
            "| | |\n|---|---|\n{}\n\n{}",
            facts.join("\n"),
            yaml.join("\n")
        )
    }
}

impl Sink for TensorBoard {
    fn name(&self) -> &'static str {
        "TensorBoard"
    }

    fn file(&self) -> &'static str {
        "tensorboard"
    }

    fn open(&mut self, start: &Start) -> Result<Position> {
        self.file = None;
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        let (path, others) = self
            .next_name()
            .with_context(|| format!("cannot read {}", self.folder.display()))?;
        let saved = match &start.saved {
            // Without the earlier files there is nothing to go on from.
            Some(saved) if others => saved.position.step,
            _ => 0,
        };
        let step = saved.min(start.last_step);
        let time = now();
        let write = || -> std::io::Result<EventFile> {
            let mut file = EventFile::create(&path, time)?;
            if others {
                file.restart(time, step)?;
            }
            if step == 0 {
                file.text(time, "experiment", &self.introduction())?;
            }
            Ok(file)
        };
        let file = write().with_context(|| format!("cannot write {}", path.display()))?;
        self.file = Some(file);
        self.last = Position { step, seen: 0 };
        Ok(self.last)
    }

    fn write(&mut self, records: &[Record]) -> Result<()> {
        let file = self.file.as_mut().context("it is not open")?;
        still_there(file.path(), file.file())?;
        file.scalars(records)
            .with_context(|| format!("cannot write {}", file.path().display()))?;
        if let Some(last) = records.last() {
            // All of the last step is written again, in case more of it follows.
            self.last = Position {
                step: last.step(),
                seen: 0,
            };
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<Saved> {
        let file = self.file.as_mut().context("it is not open")?;
        file.sync()
            .with_context(|| format!("cannot sync {}", file.path().display()))?;
        Ok(Saved {
            position: self.last,
            state: Value::Null,
        })
    }

    fn commit_spacing(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn end(&mut self, _: Ending) -> Result<()> {
        let file = self.file.as_ref().context("it is not open")?;
        still_there(file.path(), file.file())
    }

    fn place(&self) -> String {
        format!("tensorboard --logdir {}", self.folder.display())
    }
}

/// Fails if a file that is being written was removed, which writing does not notice.
pub(super) fn still_there(path: &Path, file: &fs::File) -> Result<()> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) if (found.dev(), found.ino()) == (open.dev(), open.ino()) => Ok(()),
        _ => bail!("{} is gone", path.display()),
    }
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}
