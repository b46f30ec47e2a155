//! A cluster profile of the settings: how the cluster is known, and defaults for `cluster`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::cluster::Cluster;
use super::settings::{Reader, unknown};
use super::tree::{Entry, Node, Value, join};
use super::{cluster_rules, ranges, schema};

/// Where this is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Here {
    /// Slurm's name of the cluster, if there is one.
    pub cluster: Option<String>,
    /// Name of the machine.
    pub host: String,
}

impl fmt::Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            Some(cluster) => write!(f, "{} of the Slurm cluster '{cluster}'", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// One profile of one file.
#[derive(Debug, Clone, Default)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) matches: Match,
    pub(super) runs: Option<PathBuf>,
    pub(super) partitions: BTreeMap<String, String>,
    pub(super) defaults: Vec<Entry>,
}

/// How a cluster is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Match {
    /// Slurm's `ClusterName`.
    pub(super) cluster: Option<String>,
    /// The host's name, with `*` and `?`.
    pub(super) host: Option<String>,
}

impl Match {
    pub(super) fn says_something(&self) -> bool {
        self.cluster.is_some() || self.host.is_some()
    }

    /// Whether all that is said fits.
    pub(super) fn fits(&self, here: &Here) -> bool {
        let cluster = self.cluster.as_ref();
        let host = self.host.as_ref();
        cluster.is_none_or(|name| {
            here.cluster
                .as_ref()
                .is_some_and(|here| here.eq_ignore_ascii_case(name))
        }) && host.is_none_or(|pattern| glob(pattern.as_bytes(), here.host.as_bytes()))
    }
}

/// `*` is any text, `?` any one character.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            glob(rest, text) || matches!(text, [_, after @ ..] if glob(pattern, after))
        }
        ([b'?', rest @ ..], [_, after @ ..]) => glob(rest, after),
        ([one, rest @ ..], [other, after @ ..]) => one == other && glob(rest, after),
        _ => false,
    }
}

const KEYS: [&str; 4] = ["match", "runs", "partitions", "defaults"];
const MATCH_KEYS: [&str; 2] = ["cluster", "host"];

/// Keys of `cluster` that the experiment alone may set.
const NOT_DEFAULTS: [(&str, &str); 4] = [
    ("nodes", COUNT),
    ("gpus_per_node", COUNT),
    ("tasks_per_node", COUNT),
    ("profile", "a profile cannot name another"),
];
const COUNT: &str =
    "how many ranks there are decides numbers, which come from the experiment alone";

/// Why a key of an experiment cannot be a default of a profile.
fn not_a_default(key: &str) -> Option<&'static str> {
    if let Some((_, why)) = NOT_DEFAULTS.iter().find(|(known, _)| *known == key) {
        return Some(why);
    }
    let all = schema::all_keys();
    let own = |dotted: &String| dotted.strip_prefix("cluster.") == Some(key);
    let ends = |dotted: &String| dotted.rsplit('.').next() == Some(key);
    let section = |dotted: &String| dotted.split('.').next() == Some(key) && key != "cluster";
    (!all.iter().any(own) && all.iter().any(|dotted| ends(dotted) || section(dotted))).then_some(
        "it is no key of 'cluster', and what decides numbers comes from the experiment alone",
    )
}

impl Reader<'_> {
    pub(super) fn profile(&mut self, path: &str, entry: &Entry) -> Profile {
        let mut profile = Profile {
            name: entry.key.clone(),
            ..Profile::default()
        };
        self.group(path, &entry.node, |this, path, entry| {
            match entry.key.as_str() {
                "match" => profile.matches = this.matches(path, &entry.node),
                "runs" => profile.runs = this.path(path, &entry.node),
                "partitions" => {
                    let pairs = this.group(path, &entry.node, |this, path, entry| {
                        Some((entry.key.clone(), this.text(path, &entry.node)?))
                    });
                    profile.partitions = pairs.into_iter().flatten().collect();
                }
                "defaults" => profile.defaults = this.defaults(path, &entry.node),
                key => {
                    let within = path.rsplit_once('.').map_or(path, |(within, _)| within);
                    let words = unknown(within, key, &KEYS);
                    this.report.add(entry.place, words);
                }
            }
        });
        profile
    }

    fn matches(&mut self, path: &str, node: &Node) -> Match {
        let mut matches = Match::default();
        self.group(path, node, |this, inner, entry| match entry.key.as_str() {
            "cluster" => matches.cluster = this.text(inner, &entry.node),
            "host" => matches.host = this.text(inner, &entry.node),
            key => {
                let words = unknown(path, key, &MATCH_KEYS);
                this.report.add(entry.place, words);
            }
        });
        matches
    }

    /// Judged as `cluster` of an experiment would be.
    fn defaults(&mut self, path: &str, node: &Node) -> Vec<Entry> {
        let mut cluster = node.clone();
        if let Value::Map(entries) = &mut cluster.value {
            entries.retain(|entry| {
                let Some(why) = not_a_default(&entry.key) else {
                    return true;
                };
                let message = format!("'{}' cannot be set here: {why}", join(path, &entry.key));
                self.report.add(entry.place, message);
                false
            });
        }
        schema::clean::<Cluster>(&mut cluster, path, self.report);
        let defaults = cluster.entries().to_vec();
        let place = node.place;
        let entry = Entry {
            key: "cluster".to_owned(),
            place,
            node: cluster,
        };
        let root = Node {
            place,
            value: Value::Map(vec![entry]),
        };
        if let Some(Ok(cluster)) = root.get("cluster").map(schema::read::<Cluster>) {
            let json = serde_json::json!({ "cluster": cluster });
            for (key, message) in ranges::check(&json) {
                self.report.add(root.place_of(key), message);
            }
            cluster_rules::check(&cluster, &root, self.report);
        }
        defaults
    }
}
