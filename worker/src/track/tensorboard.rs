//! TensorBoard: event files in the run directory's `tb/`, one for each time that it is opened.
//!
//! A file is never written to again after a failure or a kill. The next one begins with the step from
//! which it goes on, at which TensorBoard drops what earlier files have: nothing is there twice, whatever
//! of them reached the disk.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rocket_common::host;

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
    /// Names of all files that hold something.
    files: BTreeSet<String>,
    /// Whether the open file holds no number yet.
    empty: bool,
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
            files: BTreeSet::new(),
            empty: true,
        }
    }

    /// A name that comes after all others, in whichever order attempts find the time.
    fn next_name(names: &BTreeSet<String>) -> String {
        let seconds = |name: &String| {
            let (seconds, _) = name.strip_prefix(PREFIX)?.split_once('.')?;
            seconds.parse::<u64>().ok()
        };
        let newest = names.iter().filter_map(seconds).max();
        let now = now() as u64;
        let seconds = newest.map_or(now, |newest| now.max(newest + 1));
        format!(
            "{PREFIX}{seconds:010}.{}.{}",
            host::name(),
            std::process::id()
        )
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
        // Tried again and again, it leaves no file each time.
        if let Some(file) = self.file.take().filter(|_| self.empty) {
            let _ = fs::remove_file(file.path());
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        let there = names(&self.folder)
            .with_context(|| format!("cannot read {}", self.folder.display()))?;
        let kept = start.saved.as_ref().and_then(|saved| {
            let files: BTreeSet<String> = serde_json::from_value(saved.state.clone()).ok()?;
            // Without all earlier files there is nothing to go on from.
            (files.is_subset(&there)).then_some((files, saved.position.step))
        });
        let (files, saved) = kept.unwrap_or_default();
        let others = !there.is_empty();
        let name = Self::next_name(&there);
        let path = self.folder.join(&name);
        let step = saved.min(start.last_step);
        let time = now();
        let write = || -> std::io::Result<EventFile> {
            let mut file = EventFile::create(&path, time)?;
            if others {
                // Twice: TensorBoard's reader in Python takes the first that it meets for the beginning of the
                // first session, and voids nothing (plugin_event_accumulator.py).
                file.restart(time, step)?;
                file.restart(time, step)?;
            }
            if step == 0 {
                file.text(time, "experiment", &self.introduction())?;
            }
            Ok(file)
        };
        let file = write()
            .inspect_err(|_| {
                let _ = fs::remove_file(&path);
            })
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.empty = true;
        self.file = Some(file);
        self.files = files;
        self.files.insert(name);
        self.last = Position { step, seen: 0 };
        Ok(self.last)
    }

    fn write(&mut self, records: &[Record]) -> Result<()> {
        let file = self.file.as_mut().context("it is not open")?;
        still_there(file.path(), file.file())?;
        self.empty = false;
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
            state: serde_json::to_value(&self.files)?,
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

/// Names of the event files of a folder.
fn names(folder: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) {
            names.insert(name);
        }
    }
    Ok(names)
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
