//! What cannot be said in `track`.

use super::diagnostic::Report;
use super::sections::Experiment;
use super::tree::Node;

/// Where the MLflow client of Python looks for the server's address.
const MLFLOW_URI: &str = "MLFLOW_TRACKING_URI";

/// Characters that names on a server of Weights & Biases cannot have.
const WANDB_REFUSES: &str = "/\\#?%:";

/// Longest name of a project or group of Weights & Biases.
const WANDB_NAME: usize = 128;

/// Longest tag of Weights & Biases.
const WANDB_TAG: usize = 64;

/// Checks `track`, and fills in the address of the MLflow server.
pub(super) fn check(
    experiment: &mut Experiment,
    written: &Node,
    report: &mut Report,
    lookup: &dyn Fn(&str) -> Option<String>,
) {
    let track = &mut experiment.track;
    let mut add = |key: &str, message: String| {
        report.add(written.place_of(key), format!("'{key}' {message}"));
    };
    if experiment.command.is_some() && track.is_any() {
        add(
            "track",
            "has no effect beside 'command', whose program writes no metrics.jsonl; let that program track itself".to_owned(),
        );
        return;
    }
    if let Some(wandb) = &track.wandb {
        let optional = |value: &Option<String>| value.clone();
        for (key, value) in [
            ("track.wandb.project", Some(wandb.project.clone())),
            ("track.wandb.entity", optional(&wandb.entity)),
            ("track.wandb.group", optional(&wandb.group)),
        ] {
            if let Some(wrong) = value.and_then(|value| wrong_name(&value)) {
                add(key, wrong);
            }
        }
        for (index, tag) in wandb.tags.iter().enumerate() {
            if tag.trim().is_empty() || tag.chars().count() > WANDB_TAG {
                let words = format!("must be texts of 1 to {WANDB_TAG} characters, not '{tag}'");
                add("track.wandb.tags", words);
            } else if wandb.tags[..index].contains(tag) {
                add("track.wandb.tags", format!("names '{tag}' twice"));
            }
        }
    }
    if let Some(mlflow) = &mut track.mlflow {
        if mlflow.experiment.trim().is_empty() {
            add(
                "track.mlflow.experiment",
                "is empty; leave it out".to_owned(),
            );
        }
        let key = match written.get("track.mlflow.uri") {
            Some(_) => "track.mlflow.uri",
            None => "track.mlflow",
        };
        if mlflow.uri.is_none() {
            mlflow.uri = lookup(MLFLOW_URI).filter(|uri| !uri.is_empty());
        }
        match mlflow.uri.as_deref().map(wrong_uri) {
            None => add(
                key,
                format!(
                    "does not say where the server is; set track.mlflow.uri, such as http://host:5000, or {MLFLOW_URI} where you submit"
                ),
            ),
            Some(Some(wrong)) => add(key, wrong),
            Some(None) => {}
        }
    }
}

/// Why a name cannot be one on a server of Weights & Biases.
fn wrong_name(name: &str) -> Option<String> {
    if name.trim().is_empty() {
        return Some("is empty; leave it out".to_owned());
    }
    if name.chars().count() > WANDB_NAME {
        return Some(format!("is longer than {WANDB_NAME} characters"));
    }
    let bad = name.chars().find(|c| WANDB_REFUSES.contains(*c))?;
    Some(format!(
        "holds '{bad}', which no name on a server of Weights & Biases can have"
    ))
}

/// Why an address cannot be that of a tracking server.
fn wrong_uri(uri: &str) -> Option<String> {
    let Some(rest) = uri
        .strip_prefix("http://")
        .or_else(|| uri.strip_prefix("https://"))
    else {
        return Some(format!(
            "must be the address of a tracking server, http://... or https://..., not '{uri}'"
        ));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        // Not shown: it may hold a password.
        return Some("holds a user or a password, which would be stored in the experiment and kept in git; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, where you submit".to_owned());
    }
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if host.is_empty() || uri.contains(bad) || uri.contains(['?', '#']) {
        return Some(format!(
            "must be the address of a tracking server, such as http://host:5000, not '{uri}'"
        ));
    }
    None
}
