//! The files beside the log: what the run is, for those who look into the folder.

use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;
use rocket_common::{atomic, host};
use serde_json::{Map, Value, json};

use super::super::story::Story;

/// Writes `config.yaml` and `wandb-metadata.json`.
pub(super) fn write_introduction(folder: &Path, story: &Story, started: f64) -> Result<()> {
    let mut config = Map::new();
    if let Value::Object(sections) = &story.config {
        for (key, value) in sections {
            config.insert(key.clone(), json!({ "value": value }));
        }
    }
    let text = serde_yaml::to_string(&config)?;
    atomic::write(&folder.join("config.yaml"), text.as_bytes())?;
    let started = Timestamp::from_millisecond((started * 1e3) as i64)?;
    let metadata = json!({
        "os": std::env::consts::OS,
        "startedAt": started.to_string(),
        "program": "rocket-worker",
        "git": { "commit": story.commit },
        "root": story.run.path(),
        "host": host::name(),
        "username": story.user,
    });
    Ok(atomic::write_json(
        &folder.join("wandb-metadata.json"),
        &metadata,
    )?)
}
