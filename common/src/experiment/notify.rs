//! `notify:`, who is told what becomes of a run.

use serde::{Deserialize, Serialize};

use super::diagnostic::{Place, Report};
use super::rules::expand;
use super::tree::{Node, Value};

/// What somebody can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyEvent {
    /// The first attempt starts.
    Started,
    /// The run is complete.
    Finished,
    /// The run was given up.
    Failed,
    /// A user ended it.
    Cancelled,
    /// The scheduler took its nodes; it goes on by itself.
    Preempted,
    /// A rank crashed; it goes on by itself, unless `failed` follows.
    Crashed,
}

/// `notify:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// Addresses that a JSON with a `text` is posted to. `$X` is filled in from the environment where the
    /// run is submitted, and stays as it is in all that is stored.
    pub webhooks: Vec<String>,
    /// What is told.
    pub events: Vec<NotifyEvent>,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            webhooks: Vec::new(),
            events: vec![
                NotifyEvent::Finished,
                NotifyEvent::Failed,
                NotifyEvent::Preempted,
            ],
        }
    }
}

/// Places whose addresses are secrets: who knows one can write there.
const SECRET: [&str; 5] = [
    "hooks.slack.com/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "webhook.office.com/",
    "chat.googleapis.com/",
];

impl Notify {
    /// The addresses with their variables filled in.
    ///
    /// # Errors
    /// A variable is not set, or what results is no address; the value itself is not shown.
    pub fn addresses(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<String>, String> {
        let fill = |written: &String| {
            let address =
                expand(written, lookup).map_err(|wrong| format!("'notify.webhooks' {wrong}"))?;
            match judge(&address) {
                None => Ok(address),
                Some(_) if written.contains('$') => Err(format!(
                    "'notify.webhooks' holds '{written}', whose value is no address that begins with https:// or http://"
                )),
                Some(wrong) => Err(format!("'notify.webhooks' holds '{written}', {wrong}")),
            }
        };
        self.webhooks.iter().map(fill).collect()
    }
}

/// What is wrong with an address.
fn judge(address: &str) -> Option<&'static str> {
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Some("which does not begin with https:// or http://");
    };
    if rest.is_empty() || rest.starts_with('/') {
        return Some("which names no host");
    }
    let wrong = |c: char| c.is_whitespace() || c.is_control();
    address
        .contains(wrong)
        .then_some("which has a blank or a line break in it")
}

/// Whether an address can be used by whoever reads it.
fn is_secret(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    SECRET.iter().any(|place| rest.contains(place)) || host.contains('@')
}

/// Checks the addresses as they are written. `stored`: what is written is kept in git.
pub(super) fn check(notify: &Notify, written: Option<&Node>, stored: bool, report: &mut Report) {
    let items = written
        .and_then(|node| node.entry("webhooks"))
        .map(|entry| &entry.node);
    for (index, address) in notify.webhooks.iter().enumerate() {
        let place = match items.map(|node| (&node.value, node.place)) {
            Some((Value::List(items), place)) => items.get(index).map_or(place, |item| item.place),
            Some((_, place)) => place,
            None => Place::default(),
        };
        let filled = expand(address, &|_| Some("x".to_owned()));
        let wrong = match filled {
            Err(wrong) => format!("'notify.webhooks' {wrong}"),
            Ok(_) if stored && is_secret(address) && !address.contains('$') => {
                "'notify.webhooks' holds an address that lets whoever reads it write there, and what is written here is kept in git; put it into an environment variable, and write $NAME".to_owned()
            }
            // What a variable holds is seen when it is filled in.
            Ok(_) if address.starts_with('$') => continue,
            Ok(filled) => match judge(&filled) {
                Some(wrong) => format!("'notify.webhooks' holds '{}', {wrong}", address.escape_debug()),
                None => continue,
            },
        };
        report.add(place, wrong);
    }
}
