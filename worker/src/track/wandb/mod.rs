//! Weights & Biases: an offline run in the run directory's `wandb/`, for `wandb sync`.
//!
//! All attempts write to one file. A file of its own for each attempt, as the client makes them, would
//! have to be synced in order, each once, and with the right flags, or rows would be lost or doubled; one
//! file can be synced at any time, again and again, and gives the same run. What is kept of it is where
//! its last row begins: whatever follows, a half-written record too, is cut off and written again.

mod datastore;
mod files;
mod proto;

pub use datastore::Datastore;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use prost::Message;
use rocket_common::atomic;
use rocket_common::experiment::Wandb;
use rocket_common::host;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::records::{Position, Record};
use super::sink::{Ending, Saved, Sink, Start};
use super::story::Story;
use super::tensorboard::{now, still_there};
use proto::RecordType;

/// The offline run.
#[derive(Debug)]
pub struct WandbRun {
    root: PathBuf,
    story: Story,
    section: Wandb,
    open: Option<Open>,
}

/// What is kept over attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    /// Name of the offline run's folder.
    folder: String,
    /// Where in the file the record of the last row begins.
    offset: u64,
    /// Number of the record there.
    record: i64,
    /// When the run began, in seconds since 1970.
    started: f64,
    /// Last value of each number before the last row.
    summary: BTreeMap<String, f64>,
}

#[derive(Debug)]
struct Open {
    store: Datastore,
    /// Before the last row that was written.
    kept: State,
    position: Position,
    /// Number of the next record.
    record: i64,
    summary: BTreeMap<String, f64>,
    /// The row of a step of which more records may follow.
    row: Option<Row>,
}

/// What a step's records say together: rows of one step would be two points of a curve.
#[derive(Debug, Clone)]
struct Row {
    step: u64,
    time: f64,
    values: Vec<(String, f64)>,
}

impl WandbRun {
    /// The offline run of a run; nothing is written yet.
    #[must_use]
    pub fn new(story: &Story, section: &Wandb) -> Self {
        Self {
            root: story.run.path().join("wandb"),
            story: story.clone(),
            section: section.clone(),
            open: None,
        }
    }

    /// The id under which the server knows the run: the same in every attempt.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.story.run_id
    }

    fn file_of(&self, folder: &str) -> PathBuf {
        let name = format!("run-{}.wandb", self.id());
        self.root.join(folder).join(name)
    }

    /// A run that goes on, if its file is there as far as it was kept.
    fn resume(&self, saved: &Saved) -> Result<Option<Open>> {
        let Ok(kept) = serde_json::from_value::<State>(saved.state.clone()) else {
            return Ok(None);
        };
        let path = self.file_of(&kept.folder);
        let long_enough = fs::metadata(&path).is_ok_and(|found| found.len() >= kept.offset);
        if !long_enough {
            return Ok(None);
        }
        let store = Datastore::go_on(&path, kept.offset)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(Open {
            store,
            position: saved.position,
            record: kept.record,
            summary: kept.summary.clone(),
            row: None,
            kept,
        }))
    }

    /// A new offline run.
    fn begin(&self, start: &Start) -> Result<Open> {
        let started = start.first_time.unwrap_or(f64::MAX).min(now());
        let stamp = proto::timestamp(started);
        let when = Timestamp::new(stamp.seconds, 0)?.strftime("%Y%m%d_%H%M%S");
        let folder = format!("offline-run-{when}-{}", self.id());
        let path = self.file_of(&folder);
        let files = self.root.join(&folder).join("files");
        let write = || -> Result<Datastore> {
            fs::create_dir_all(&files)?;
            files::write_introduction(&files, &self.story, started)?;
            Ok(Datastore::create(&path)?)
        };
        let store = write().with_context(|| format!("cannot write {}", path.display()))?;
        let mut open = Open {
            store,
            kept: State {
                folder,
                offset: 0,
                record: 0,
                started,
                summary: BTreeMap::new(),
            },
            position: Position::default(),
            record: 1,
            summary: BTreeMap::new(),
            row: None,
        };
        open.append(
            [
                RecordType::Header(proto::header()),
                RecordType::Run(Box::new(self.run_record(started))),
                RecordType::Environment(Box::new(proto::environment(&self.story, started))),
            ],
            self.id(),
        )?;
        open.keep();
        Ok(open)
    }

    fn run_record(&self, started: f64) -> proto::RunRecord {
        let section = &self.section;
        let mut config = vec![proto::ConfigItem::new("_wandb", &json!({}))];
        if let Value::Object(sections) = &self.story.config {
            let items = sections.iter();
            config.extend(items.map(|(key, value)| proto::ConfigItem::new(key, value)));
        }
        let facts: serde_json::Map<String, Value> = (self.story.facts().into_iter())
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        config.push(proto::ConfigItem::new("rocket", &Value::Object(facts)));
        proto::RunRecord {
            run_id: self.id().to_owned(),
            entity: section.entity.clone().unwrap_or_default(),
            project: section.project.clone(),
            config: Some(proto::ConfigRecord { update: config }),
            run_group: (section.group.clone())
                .or_else(|| self.story.sweep.clone())
                .unwrap_or_default(),
            display_name: self.id().to_owned(),
            tags: section.tags.clone(),
            host: host::name(),
            start_time: Some(proto::timestamp(started)),
            git: Some(proto::GitRepoRecord {
                commit: self.story.commit.clone(),
            }),
        }
    }

    fn folder(&self, open: &Open) -> PathBuf {
        self.root.join(&open.kept.folder)
    }
}

impl Open {
    fn append(
        &mut self,
        records: impl IntoIterator<Item = RecordType>,
        id: &str,
    ) -> std::io::Result<()> {
        let mut encoded = Vec::new();
        for what in records {
            let record = proto::Record {
                num: self.record,
                what: Some(what),
                info: Some(proto::RecordInfo {
                    stream_id: id.to_owned(),
                }),
            };
            self.record += 1;
            encoded.push(record.encode_to_vec());
        }
        self.store.append(&encoded)
    }

    /// Goes on from here, should what follows not be finished.
    fn keep(&mut self) {
        self.kept.offset = self.store.len();
        self.kept.record = self.record;
        self.kept.summary = self.summary.clone();
    }

    /// Writes the row that is complete.
    fn write_row(&mut self, id: &str) -> std::io::Result<()> {
        let Some(row) = self.row.take() else {
            return Ok(());
        };
        self.keep();
        self.position = Position {
            step: row.step,
            seen: 0,
        };
        let runtime = (row.time - self.kept.started).max(0.0);
        let mut values = row.values;
        values.push(("_timestamp".to_owned(), row.time));
        values.push(("_runtime".to_owned(), runtime));
        let mut items: Vec<proto::HistoryItem> = values
            .iter()
            .map(|(name, value)| proto::HistoryItem::new(name, &json!(value)))
            .collect();
        items.push(proto::HistoryItem::new("_step", &json!(row.step)));
        let history = proto::HistoryRecord {
            item: items,
            step: Some(proto::HistoryStep {
                num: i64::try_from(row.step).unwrap_or(i64::MAX),
            }),
        };
        self.summary.extend(values);
        self.append([RecordType::History(history)], id)
    }

    /// The last values, with the step they are of.
    fn summary(&self) -> serde_json::Map<String, Value> {
        let values = self.summary.iter();
        let mut summary: serde_json::Map<String, Value> = values
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        summary.insert("_step".to_owned(), self.position.step.into());
        let runtime = self.summary.get("_runtime").copied().unwrap_or_default();
        summary.insert("_wandb".to_owned(), json!({"runtime": runtime as u64}));
        summary
    }

    fn write_summary(&mut self, id: &str) -> std::io::Result<()> {
        let items = self.summary();
        let items = items.iter();
        let update = items
            .map(|(name, value)| proto::SummaryItem::new(name, value))
            .collect();
        self.append([RecordType::Summary(proto::SummaryRecord { update })], id)
    }
}

impl Sink for WandbRun {
    fn name(&self) -> &'static str {
        "Weights & Biases"
    }

    fn file(&self) -> &'static str {
        "wandb"
    }

    fn open(&mut self, start: &Start) -> Result<Position> {
        self.open = None;
        let resumed = match &start.saved {
            Some(saved) => self.resume(saved)?,
            None => None,
        };
        let open = match resumed {
            Some(open) => open,
            None => self.begin(start)?,
        };
        let position = open.position;
        self.open = Some(open);
        Ok(position)
    }

    fn write(&mut self, records: &[Record]) -> Result<()> {
        let id = self.story.run_id.clone();
        let open = self.open.as_mut().context("it is not open")?;
        still_there(open.store.path(), open.store.file())?;
        let path = open.store.path().to_owned();
        for record in records {
            if open
                .row
                .as_ref()
                .is_some_and(|row| row.step != record.step())
            {
                open.write_row(&id)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            let row = open.row.get_or_insert_with(|| Row {
                step: record.step(),
                time: record.time,
                values: Vec::new(),
            });
            for (name, value) in &record.values {
                match row.values.iter_mut().find(|(known, _)| known == name) {
                    Some((_, known)) => *known = *value,
                    None => row.values.push((name.clone(), *value)),
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<Saved> {
        let open = self.open.as_mut().context("it is not open")?;
        let path = open.store.path().to_owned();
        open.store
            .sync()
            .with_context(|| format!("cannot sync {}", path.display()))?;
        // The mark of 'wandb sync' would keep what was added since from being synced.
        match fs::remove_file(mark_of(&path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error.into());
            }
            _ => {}
        }
        Ok(Saved {
            position: open.position,
            state: serde_json::to_value(&open.kept)?,
        })
    }

    fn commit_spacing(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn end(&mut self, ending: Ending) -> Result<()> {
        let id = self.story.run_id.clone();
        let open = self.open.as_mut().context("it is not open")?;
        let path = open.store.path().to_owned();
        still_there(&path, open.store.file())?;
        let mut write = || -> std::io::Result<()> {
            open.write_row(&id)?;
            open.write_summary(&id)?;
            if let Some(exit_code) = ending.exit_code() {
                let exit = proto::RunExitRecord { exit_code };
                open.append([RecordType::Exit(exit)], &id)?;
            }
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        let open = self.open.as_ref().context("it is not open")?;
        let summary = self.folder(open).join("files/wandb-summary.json");
        atomic::write_json(&summary, &open.summary())?;
        Ok(())
    }

    fn place(&self) -> String {
        let folder = self.open.as_ref().map(|open| self.folder(open));
        let folder = folder.unwrap_or_else(|| self.root.join("offline-run-*"));
        format!("wandb sync {}", folder.display())
    }
}

/// The mark that 'wandb sync' leaves beside a file.
fn mark_of(file: &Path) -> PathBuf {
    let mut mark = file.as_os_str().to_owned();
    mark.push(".synced");
    mark.into()
}
