//! Requests to a tracking server.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use reqwest::blocking::{Client as Http, RequestBuilder};
use serde_json::Value;

/// The longest that a server may take to be reached, and to answer.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(8)];

/// Most of a server's own words that are shown.
const WORDS: usize = 200;

/// What was asked for does not exist.
#[derive(Debug, thiserror::Error)]
#[error("the server does not have it: {0}")]
pub(super) struct NotThere(String);

/// Speaks to one server. Who may write is said by the environment, as to MLflow's own client.
pub(super) struct Client {
    http: Http,
    base: String,
    token: Option<String>,
    login: Option<(String, String)>,
}

impl Client {
    pub(super) fn new(uri: &str) -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let insecure = set("MLFLOW_TRACKING_INSECURE_TLS").is_some_and(|value| value == "true");
        let http = Http::builder()
            .connect_timeout(TIMEOUTS[0])
            .timeout(TIMEOUTS[1])
            .danger_accept_invalid_certs(insecure)
            .user_agent(concat!("rocket/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot prepare requests")?;
        let password = set("MLFLOW_TRACKING_PASSWORD").unwrap_or_default();
        Ok(Self {
            http,
            base: uri.trim_end_matches('/').to_owned(),
            token: set("MLFLOW_TRACKING_TOKEN"),
            login: set("MLFLOW_TRACKING_USERNAME").map(|name| (name, password)),
        })
    }

    pub(super) fn get(&self, what: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.send(what, self.http.get(self.url(what)).query(query))
    }

    pub(super) fn post(&self, what: &str, body: &Value) -> Result<Value> {
        self.send(what, self.http.post(self.url(what)).json(body))
    }

    fn url(&self, what: &str) -> String {
        format!("{}/api/2.0/mlflow/{what}", self.base)
    }

    fn send(&self, what: &str, request: RequestBuilder) -> Result<Value> {
        let request = match (&self.token, &self.login) {
            (_, Some((name, password))) => request.basic_auth(name, Some(password)),
            (Some(token), None) => request.bearer_auth(token),
            (None, None) => request,
        };
        let said = || format!("'{what}' of {} failed", self.base);
        let answer = request
            .send()
            .map_err(reqwest::Error::without_url)
            .with_context(said)?;
        let status = answer.status();
        let text = answer
            .text()
            .map_err(reqwest::Error::without_url)
            .with_context(said)?;
        if status.is_success() {
            return serde_json::from_str(&text)
                .with_context(|| format!("'{what}' of {} answered no JSON", self.base));
        }
        let error: Value = serde_json::from_str(&text).unwrap_or_default();
        let words = error["message"].as_str().unwrap_or(&text);
        let words: String = words.chars().take(WORDS).collect();
        if status == StatusCode::NOT_FOUND && error["error_code"] == "RESOURCE_DOES_NOT_EXIST" {
            return Err(NotThere(words).into());
        }
        bail!("'{what}' of {} answered {status}: {words}", self.base)
    }
}
