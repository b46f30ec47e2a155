//! What cannot be in `cluster`. Every value that reaches a script, a command line or an environment is
//! judged here, while its place in the file is known.

use super::cluster::{Cluster, DeviceKind, VOLTA32};
use super::diagnostic::Report;
use super::limits::TimeLimit;
use super::options;
use super::tree::{Node, Value};

/// Variables that say a rank its place, or that a shell does not let go.
const RESERVED: [&str; 13] = [
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "UID",
    "EUID",
    "PPID",
    "BASHOPTS",
    "SHELLOPTS",
    "BASH_ENV",
    "BASH_VERSINFO",
];

/// Beginnings of variables that are Slurm's or rocket's.
const RESERVED_PREFIXES: [&str; 5] = ["ROCKET_", "SLURM_", "SBATCH_", "SRUN_", "SLURMD_"];

/// Slurm refuses texts of more than 1024 bytes; rocket adds to some.
const LONGEST: usize = 900;

struct Rules<'a> {
    cluster: &'a Cluster,
    written: &'a Node,
    report: &'a mut Report,
}

/// Checks `cluster`.
pub(crate) fn check(cluster: &Cluster, written: &Node, report: &mut Report) {
    let mut rules = Rules {
        cluster,
        written,
        report,
    };
    rules.size();
    rules.time();
    rules.words();
    rules.constraint();
    rules.exclude();
    rules.mail();
    rules.setup();
    rules.env();
    rules.secrets();
    rules.extra("extra", false);
    rules.extra("srun_extra", true);
}

impl Rules<'_> {
    fn add(&mut self, key: &str, message: impl Into<String>) {
        let place = self.written.place_of(&format!("cluster.{key}"));
        self.report.add(place, message);
    }

    /// At one item of a list.
    fn add_item(&mut self, list: &str, index: usize, message: String) {
        let key = format!("cluster.{list}");
        let place = match self.written.get(&key).map(|node| &node.value) {
            Some(Value::List(items)) => items.get(index).map(|item| item.place),
            _ => None,
        };
        let place = place.unwrap_or_else(|| self.written.place_of(&key));
        self.report.add(place, message);
    }

    /// At one key of a group: its name may hold dots.
    fn add_at(&mut self, group: &str, name: &str, message: String) {
        let group = self.written.get(&format!("cluster.{group}"));
        let place = group.and_then(|group| group.entry(name));
        let place = place.map_or_else(
            || self.written.place_of("cluster"),
            |entry| entry.node.place,
        );
        self.report.add(place, message);
    }

    fn size(&mut self) {
        let cluster = self.cluster;
        if cluster.tasks_per_node.is_none() && cluster.gpus_per_node == 0 {
            self.add(
                "gpus_per_node",
                "without GPUs the number of ranks is not known; set 'cluster.tasks_per_node'",
            );
        }
        let tasks = cluster.ranks_per_node();
        if cluster
            .nodes
            .checked_mul(tasks)
            .is_none_or(|ranks| ranks > 1_000_000)
        {
            self.add(
                "nodes",
                "nodes x ranks per node is more than a million ranks",
            );
        }
        if cluster.device == DeviceKind::Cuda && tasks > cluster.gpus_per_node {
            let gpus = cluster.gpus_per_node;
            self.add(
                "tasks_per_node",
                format!("each rank on CUDA has a GPU of its own: {tasks} ranks per node do not fit on {gpus} GPUs"),
            );
        }
    }

    /// The stop request comes before the time limit, and something must come before that.
    fn time(&mut self) {
        let cluster = self.cluster;
        let Some(limit) = cluster.time.and_then(TimeLimit::granted_seconds) else {
            return;
        };
        let (signal, grace) = (cluster.signal_seconds(), cluster.stop_grace_seconds);
        if signal >= limit {
            self.add(
                "time",
                format!("'cluster.time' is {limit} s, and ranks are asked to stop {signal} s before its end: no time is left to train; make it longer or 'cluster.stop_grace_seconds', {grace}, shorter"),
            );
        }
    }

    /// Values that are one line of words.
    fn words(&mut self) {
        let cluster = self.cluster;
        let words = [
            ("profile", &cluster.profile),
            ("partition", &cluster.partition),
            ("account", &cluster.account),
            ("qos", &cluster.qos),
            ("constraint", &cluster.constraint),
            ("reservation", &cluster.reservation),
            ("comment", &cluster.comment),
            ("dependency", &cluster.dependency),
            ("mail_user", &cluster.mail_user),
        ];
        for (key, value) in words {
            let Some(value) = value else { continue };
            if let Some(wrong) = not_a_line(value) {
                self.add(key, format!("'cluster.{key}' {wrong}"));
            }
        }
        if let Some(comment) = &cluster.comment
            && comment.contains("rocket=")
        {
            self.add(
                "comment",
                "'cluster.comment' may not hold 'rocket=', by which rocket knows its jobs again",
            );
        }
    }

    fn constraint(&mut self) {
        let named = self.cluster.constraint.as_deref().unwrap_or_default();
        let separator = |c: char| matches!(c, '&' | '|' | '(' | ')' | '[' | ']' | ',');
        if self.cluster.use_volta32 && named.split(separator).any(|word| word.trim() == VOLTA32) {
            self.add(
                "use_volta32",
                format!("'cluster.use_volta32' and {VOLTA32} in 'cluster.constraint' say the same thing; remove one of them"),
            );
        }
    }

    fn exclude(&mut self) {
        let plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '[' | ']' | ',');
        let exclude = &self.cluster.exclude;
        for (index, nodes) in exclude.iter().enumerate() {
            if nodes.is_empty() || !nodes.chars().all(plain) {
                let shown = nodes.escape_debug();
                self.add_item(
                    "exclude",
                    index,
                    format!("'cluster.exclude[{index}]' must be a node or a list of nodes such as n[1-3,7], not '{shown}'"),
                );
            } else if exclude[..index].contains(nodes) {
                self.add_item(
                    "exclude",
                    index,
                    format!("'cluster.exclude' names '{nodes}' twice"),
                );
            }
        }
    }

    fn mail(&mut self) {
        if self.cluster.mail_user.is_some() && self.cluster.mail_type.is_empty() {
            self.add(
                "mail_user",
                "'cluster.mail_user' gets no mail without 'cluster.mail_type'; set it to [END, FAIL] or the like",
            );
        }
    }

    fn setup(&mut self) {
        for (index, line) in self.cluster.setup.iter().enumerate() {
            // It is code by design: only what would not be read as code is refused.
            let wrong = if line.trim_start().starts_with("#SBATCH") {
                "is a directive, which Slurm would not read there; use 'cluster.extra'"
            } else if line
                .chars()
                .any(|c| c.is_control() && c != '\t' && c != '\n')
            {
                "holds a control character"
            } else {
                continue;
            };
            self.add_item("setup", index, format!("'cluster.setup[{index}]' {wrong}"));
        }
    }

    fn env(&mut self) {
        for (name, value) in &self.cluster.env {
            let shown = name.escape_debug();
            let wrong = if let Some(wrong) = not_a_variable(name) {
                wrong
            } else if options::is_secret(name) {
                "would be stored with its value in the experiment, which is kept in git; set it where you submit, and name it in 'cluster.secrets'".to_owned()
            } else if value.chars().any(|c| c.is_control() && c != '\t') {
                "has a value with a line break or another control character".to_owned()
            } else {
                continue;
            };
            self.add_at("env", name, format!("'cluster.env.{shown}' {wrong}"));
        }
    }

    fn secrets(&mut self) {
        let Some(secrets) = &self.cluster.secrets else {
            return;
        };
        for (index, name) in secrets.iter().enumerate() {
            let shown = name.escape_debug();
            let wrong = if let Some(wrong) = not_a_variable(name) {
                format!("'{shown}' {wrong}")
            } else if self.cluster.env.contains_key(name) {
                format!("'{shown}' is in 'cluster.env' too; remove it there")
            } else if secrets[..index].contains(name) {
                format!("'{shown}' is named twice")
            } else {
                continue;
            };
            self.add_item(
                "secrets",
                index,
                format!("'cluster.secrets[{index}]': {wrong}"),
            );
        }
    }

    fn extra(&mut self, key: &str, srun: bool) {
        let cluster = self.cluster;
        let flags = if srun {
            &cluster.srun_extra
        } else {
            &cluster.extra
        };
        for (name, flag) in flags {
            let wrong = options::refusal(name, flag, srun).or_else(|| match flag {
                options::Flag::Value(value) => not_a_line(value),
                options::Flag::Alone => None,
            });
            if let Some(wrong) = wrong {
                let shown = name.escape_debug();
                self.add_at(key, name, format!("'cluster.{key}.{shown}' {wrong}"));
            }
        }
        let memory = flags.keys().find(|name| name.starts_with("mem-per-"));
        if let (false, Some(memory), Some(_)) = (srun, memory, &cluster.mem) {
            let message = format!(
                "'cluster.extra.{memory}' and 'cluster.mem' both say how much memory; remove one of them"
            );
            self.add_at(key, memory, message);
        }
    }
}

/// Why a text cannot stand in one line of a script; what follows its key.
fn not_a_line(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return Some("is empty; leave the key out for Slurm's default".to_owned());
    }
    if text.len() > LONGEST {
        return Some(format!(
            "is longer than the {LONGEST} bytes that Slurm takes"
        ));
    }
    text.chars().any(char::is_control).then(|| {
        let shown = text.escape_debug();
        format!("holds a line break or another control character, which no batch script can say: '{shown}'")
    })
}

/// Why a text cannot name an environment variable for the ranks; what follows it.
fn not_a_variable(name: &str) -> Option<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(word) || !name.starts_with(|c: char| word(c) && !c.is_ascii_digit()) {
        return Some("is not the name of an environment variable".to_owned());
    }
    let prefixed = RESERVED_PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix));
    (prefixed || RESERVED.contains(&name))
        .then(|| "is a variable that Slurm, the shell or rocket sets itself".to_owned())
}
