//! The queue: one `squeue` for all runs.

use std::collections::BTreeSet;

use super::{Client, Failure};

/// A job in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedJob {
    /// Its number.
    pub id: String,
    /// Its state in full, `PENDING`.
    pub state: String,
    /// Slurm's reason, while it waits.
    pub reason: String,
    /// When Slurm expects to start it, or has.
    pub start: Option<String>,
    /// Its nodes, compressed.
    pub nodes: String,
    /// The token in its comment, if the job is a run's.
    pub token: Option<String>,
}

impl QueuedJob {
    /// Whether it waits to be started.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.state.starts_with("PENDING") || self.state.contains("REQUEUE")
    }

    /// Whether it is over, or ending; Slurm keeps such jobs in the list for some minutes. A job that
    /// completes may be one that is queued again.
    #[must_use]
    pub fn is_over(&self) -> bool {
        const OVER: [&str; 9] = [
            "CANCELLED",
            "COMPLETED",
            "FAILED",
            "TIMEOUT",
            "PREEMPTED",
            "NODE_FAIL",
            "BOOT_FAIL",
            "DEADLINE",
            "OUT_OF_MEMORY",
        ];
        OVER.contains(&self.state.as_str())
    }
}

/// The jobs of some users that are waiting, running or ending.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    jobs: Vec<QueuedJob>,
}

/// What stands between fields: no field of Slurm's holds it.
const SEPARATOR: char = '\u{1f}';
/// Job, state, reason, start, nodes, comment; the comment last, since it is the user's.
const FORMAT: &str = "%i\u{1f}%T\u{1f}%r\u{1f}%S\u{1f}%N\u{1f}%k";
/// Stands before the token in a job's comment.
pub const TOKEN: &str = "rocket=";

impl Queue {
    /// Asks for all jobs of these users; of this process's user if none is named.
    ///
    /// # Errors
    /// The controller does not answer.
    pub fn ask(client: &Client, users: &BTreeSet<String>) -> Result<Self, Failure> {
        let whose = if users.is_empty() {
            "--me".to_owned()
        } else {
            let users: Vec<&str> = users.iter().map(String::as_str).collect();
            format!("--user={}", users.join(","))
        };
        let text = client.run(
            "squeue",
            ["--noheader", "--all", &whose, "--format", FORMAT],
        )?;
        Ok(Self::parse(&text))
    }

    /// From `squeue`'s lines.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let job = |line: &str| {
            let mut fields = line.splitn(6, SEPARATOR).map(str::trim);
            let mut next = || fields.next().map(str::to_owned);
            let (id, state, reason, start, nodes) = (next()?, next()?, next()?, next()?, next()?);
            let comment = next().unwrap_or_default();
            Some(QueuedJob {
                id,
                state,
                reason,
                start: Some(start).filter(|start| !start.is_empty() && start != "N/A"),
                nodes,
                token: token(&comment),
            })
        };
        Self {
            jobs: text.lines().filter_map(job).collect(),
        }
    }

    /// The job that carries a token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Option<&QueuedJob> {
        self.jobs
            .iter()
            .find(|job| job.token.as_deref() == Some(token))
    }
}

/// The token in a comment: its last word.
fn token(comment: &str) -> Option<String> {
    let word = comment.split_whitespace().next_back()?;
    word.strip_prefix(TOKEN).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_known_by_their_token() {
        let text = "7\u{1f}PENDING\u{1f}Resources\u{1f}2026-11-24T01:00:00\u{1f}\u{1f}for the paper rocket=00ff\n\
                    8\u{1f}RUNNING\u{1f}None\u{1f}2026-11-23T01:00:00\u{1f}n[1-2]\u{1f}rocket=abcd\n\
                    9\u{1f}RUNNING\u{1f}None\u{1f}N/A\u{1f}n3\u{1f}(null)\n";
        let queue = Queue::parse(text);
        let job = queue.with_token("00ff").unwrap();
        assert_eq!(
            (&*job.id, job.is_pending(), job.is_over()),
            ("7", true, false)
        );
        assert_eq!(queue.with_token("abcd").unwrap().nodes, "n[1-2]");
        assert_eq!(queue.with_token("ffff"), None);
        assert_eq!(queue.jobs.len(), 3);
    }
}
