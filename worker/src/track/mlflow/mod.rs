//! MLflow: a run on a tracking server, over its REST API.
//!
//! The server is asked what it has whenever the run is opened: after a request that failed or a process
//! that was killed, nobody else knows whether the last batch arrived.

mod client;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rocket_common::experiment::Mlflow;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::records::{Position, Record};
use super::sink::{Ending, Saved, Sink, Start};
use super::story::Story;
use super::tensorboard::now;
use client::{Client, NotThere};

/// Most metrics, and most parameters or tags, of one request.
const BATCH: [usize; 2] = [1000, 100];

/// Longest value of a parameter; longer ones are cut (servers before 2.8 take no more).
const PARAM: usize = 500;

/// Tags by which a run is found again, should the answer to its creation be lost.
const RUN_ID: &str = "rocket.run_id";
const CREATED: &str = "rocket.created";

/// The run on the server.
pub struct MlflowRun {
    story: Story,
    uri: String,
    experiment: String,
    open: Option<Open>,
}

impl std::fmt::Debug for MlflowRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MlflowRun")
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

/// What is kept over attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    uri: String,
    experiment_id: String,
    run_id: String,
}

struct Open {
    client: Client,
    state: State,
    position: Position,
    /// Last step of each metric that the server had when the run was opened.
    known: BTreeMap<String, u64>,
}

impl MlflowRun {
    /// The run of a run; nothing is sent yet.
    #[must_use]
    pub fn new(story: &Story, section: &Mlflow) -> Self {
        Self {
            story: story.clone(),
            uri: section.uri.clone().unwrap_or_default(),
            experiment: section.experiment.clone(),
            open: None,
        }
    }

    /// The experiment's id, made if it is not there.
    fn experiment(&self, client: &Client) -> Result<String> {
        let query = [("experiment_name", self.experiment.as_str())];
        let find = || client.get("experiments/get-by-name", &query);
        let id = |answer: &Value| {
            let id = answer["experiment"]["experiment_id"].as_str();
            id.map(str::to_owned)
                .context("the server names no experiment")
        };
        match find() {
            Ok(found) => return id(&found),
            Err(error) if error.is::<NotThere>() => {}
            Err(error) => return Err(error),
        }
        match client.post("experiments/create", &json!({ "name": self.experiment })) {
            Ok(made) => {
                let id = made["experiment_id"].as_str();
                id.map(str::to_owned)
                    .context("the server names no experiment")
            }
            // Another run may have made it in between.
            Err(error) => find().and_then(|found| id(&found)).map_err(|_| error),
        }
    }

    /// A run that the server has already, though nobody kept its id.
    fn find(&self, client: &Client, experiment: &str) -> Result<Option<String>> {
        let quoted = |text: &str| text.replace('\'', "");
        let filter = format!(
            "tags.`{RUN_ID}` = '{}' and tags.`{CREATED}` = '{}'",
            quoted(&self.story.run_id),
            quoted(&self.story.created.to_string()),
        );
        let body = json!({"experiment_ids": [experiment], "filter": filter, "max_results": 1});
        let found = client.post("runs/search", &body)?;
        let id = found["runs"][0]["info"]["run_id"].as_str();
        Ok(id.map(str::to_owned))
    }

    /// Makes the run, with everything there is to say of it but its numbers.
    fn create(&self, client: &Client, start: &Start) -> Result<State> {
        let story = &self.story;
        let experiment_id = self.experiment(client)?;
        let found = self.find(client, &experiment_id)?;
        let run_id = match found {
            Some(found) => found,
            None => {
                let began = start.first_time.unwrap_or(f64::MAX).min(now());
                let mut tags = vec![
                    tag("mlflow.user", &story.user),
                    tag("mlflow.source.name", "rocket-worker"),
                    tag("mlflow.source.type", "JOB"),
                    tag("mlflow.source.git.commit", &story.commit),
                    tag(
                        "mlflow.note.content",
                        &format!("Run {} of rocket.", story.run_id),
                    ),
                ];
                let facts = story.facts().into_iter();
                tags.extend(facts.map(|(name, value)| tag(&format!("rocket.{name}"), &value)));
                let body = json!({
                    "experiment_id": experiment_id,
                    "run_name": story.run_id,
                    "user_id": story.user,
                    "start_time": millis(began),
                    "tags": tags,
                });
                let made = client.post("runs/create", &body)?;
                let id = made["run"]["info"]["run_id"].as_str();
                id.map(str::to_owned).context("the server names no run")?
            }
        };
        let params: Vec<Value> = story
            .flat()
            .iter()
            .map(|(key, value)| json!({"key": key, "value": cut(value)}))
            .collect();
        for params in params.chunks(BATCH[1]) {
            let body = json!({"run_id": run_id, "params": params});
            client.post("runs/log-batch", &body)?;
        }
        Ok(State {
            uri: self.uri.clone(),
            experiment_id,
            run_id,
        })
    }
}

impl Sink for MlflowRun {
    fn name(&self) -> &'static str {
        "MLflow"
    }

    fn file(&self) -> &'static str {
        "mlflow"
    }

    fn open(&mut self, start: &Start) -> Result<Position> {
        self.open = None;
        let client = Client::new(&self.uri)?;
        let kept = start.saved.as_ref().and_then(|saved| {
            let state: State = serde_json::from_value(saved.state.clone()).ok()?;
            (state.uri == self.uri).then_some((state, saved.position))
        });
        let run = |state: &State| client.get("runs/get", &[("run_id", state.run_id.as_str())]);
        let found = match kept {
            Some((state, position)) => match run(&state) {
                Ok(answer) => Some((state, position, answer)),
                // The server has lost it: it gets a new one.
                Err(error) if error.is::<NotThere>() => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        let (state, position, answer) = match found {
            Some(found) => found,
            None => {
                let state = self.create(&client, start)?;
                let answer = run(&state)?;
                (state, Position::default(), answer)
            }
        };
        if answer["run"]["info"]["status"] != "RUNNING" {
            let body = json!({"run_id": state.run_id, "status": "RUNNING"});
            client.post("runs/update", &body)?;
        }
        let metrics = answer["run"]["data"]["metrics"].as_array();
        let known = metrics
            .into_iter()
            .flatten()
            .filter_map(|metric| {
                let step = &metric["step"];
                // JSON of 64-bit numbers is a text to some servers.
                let step = (step.as_u64()).or_else(|| step.as_str()?.parse().ok())?;
                Some((metric["key"].as_str()?.to_owned(), step))
            })
            .collect();
        self.open = Some(Open {
            client,
            state,
            position,
            known,
        });
        Ok(position)
    }

    fn write(&mut self, records: &[Record]) -> Result<()> {
        let open = self.open.as_mut().context("it is not open")?;
        let mut metrics = Vec::new();
        for record in records {
            let step = record.step();
            let values = record.values.iter();
            let new = values.filter(|(name, _)| open.known.get(name).is_none_or(|at| *at < step));
            metrics.extend(new.map(|(name, value)| {
                json!({"key": name, "value": value, "timestamp": millis(record.time), "step": step})
            }));
        }
        for metrics in metrics.chunks(BATCH[0]) {
            let body = json!({"run_id": open.state.run_id, "metrics": metrics});
            open.client.post("runs/log-batch", &body)?;
        }
        if let Some(last) = records.last() {
            open.position = last.at.next();
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<Saved> {
        let open = self.open.as_ref().context("it is not open")?;
        Ok(Saved {
            position: open.position,
            state: serde_json::to_value(&open.state)?,
        })
    }

    fn commit_spacing(&self) -> Duration {
        Duration::ZERO
    }

    fn end(&mut self, ending: Ending) -> Result<()> {
        let open = self.open.as_ref().context("it is not open")?;
        let status = match ending {
            Ending::Finished => "FINISHED",
            Ending::Paused => "SCHEDULED",
            Ending::Killed => "KILLED",
            Ending::Failed => "FAILED",
            Ending::Lost => return Ok(()),
        };
        let mut body = json!({"run_id": open.state.run_id, "status": status});
        if ending != Ending::Paused {
            body["end_time"] = millis(now()).into();
        }
        open.client.post("runs/update", &body)?;
        Ok(())
    }

    fn place(&self) -> String {
        match &self.open {
            Some(Open { state, .. }) => format!(
                "{}/#/experiments/{}/runs/{}",
                self.uri.trim_end_matches('/'),
                state.experiment_id,
                state.run_id
            ),
            None => self.uri.clone(),
        }
    }
}

fn tag(key: &str, value: &str) -> Value {
    json!({"key": key, "value": value})
}

fn millis(seconds: f64) -> i64 {
    (seconds * 1e3).round() as i64
}

/// A value of a parameter, no longer than servers take.
fn cut(value: &str) -> String {
    if value.chars().count() <= PARAM {
        return value.to_owned();
    }
    let kept: String = value.chars().take(PARAM - 1).collect();
    format!("{kept}…")
}
