//! What there is to say of a run besides its numbers.

use anyhow::Result;
use jiff::Timestamp;
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::RunDir;
use serde_json::Value;

/// A run, as trackers introduce it.
#[derive(Debug, Clone)]
pub struct Story {
    /// Its directory.
    pub run: RunDir,
    /// Its id.
    pub run_id: String,
    /// Name of its experiment.
    pub name: String,
    /// The pin: commit of the code and the experiment.
    pub commit: String,
    /// The commit that the pin was made from.
    pub parent_commit: String,
    /// Equal for runs that are to give equal numbers.
    pub recipe_hash: String,
    /// Who submitted it.
    pub user: String,
    /// The machine it was submitted from.
    pub host: String,
    /// When it was submitted.
    pub created: Timestamp,
    /// The sweep that it is a point of.
    pub sweep: Option<String>,
    /// The resolved experiment, without its trackers.
    pub config: Value,
    /// The same as it is stored.
    pub yaml: String,
}

impl Story {
    /// Reads it from the run directory.
    ///
    /// # Errors
    /// When the manifest or the experiment cannot be read.
    pub fn read(run: &RunDir) -> Result<Self> {
        let manifest = run.manifest()?;
        let experiment = Experiment::read(&run.experiment_path())?;
        let raw: Value = rocket_common::atomic::read_json(&run.manifest_path())?;
        let sweep = raw["sweep"]["id"].as_str().map(str::to_owned);
        let mut config = serde_json::to_value(&experiment)?;
        if let Some(sections) = config.as_object_mut() {
            sections.shift_remove("track");
        }
        Ok(Self {
            run: run.clone(),
            run_id: manifest.run_id,
            name: manifest.name,
            commit: manifest.commit,
            parent_commit: manifest.parent_commit,
            recipe_hash: manifest.recipe_hash,
            user: manifest.user,
            host: manifest.host,
            created: manifest.created,
            sweep,
            config,
            yaml: experiment.to_yaml(),
        })
    }

    /// Every value of the experiment by its dotted key: `optim.lr`.
    #[must_use]
    pub fn flat(&self) -> Vec<(String, String)> {
        let mut flat = Vec::new();
        flatten("", &self.config, &mut flat);
        flat
    }

    /// What identifies it, by name.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("run_id", self.run_id.clone()),
            ("commit", self.commit.clone()),
            ("parent_commit", self.parent_commit.clone()),
            ("recipe_hash", self.recipe_hash.clone()),
            ("created", self.created.to_string()),
        ];
        if let Some(sweep) = &self.sweep {
            facts.push(("sweep", sweep.clone()));
        }
        facts
    }
}

fn flatten(path: &str, value: &Value, flat: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(&path, value, flat);
            }
        }
        Value::String(text) => flat.push((path.to_owned(), text.clone())),
        other => flat.push((path.to_owned(), other.to_string())),
    }
}
