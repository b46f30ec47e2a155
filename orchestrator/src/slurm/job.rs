//! One job, as `scontrol show job` tells it, and what that means for the supervisor inside it.

use std::collections::BTreeMap;

use super::{Client, Failure};

/// What `scontrol -o show job` says of a job; the fields that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobInfo {
    /// `JobState`: while its processes are being ended this is `COMPLETING`, whatever the reason.
    pub state: String,
    /// `Reason`.
    pub reason: String,
    /// `Restarts`: how often Slurm has started it again.
    pub restarts: u32,
    /// `PreemptTime` is set.
    pub preempted: bool,
    /// `Requeue`: Slurm may start it again.
    pub requeue: bool,
    /// `EndTime` minus `StartTime` has reached `TimeLimit`.
    pub out_of_time: bool,
    /// `NodeList`, compressed.
    pub nodes: String,
}

/// What becomes of the job that a supervisor runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Runs,
    /// It goes on for its grace time; the nodes are wanted for another job.
    Preempting,
    /// Slurm has queued it again, and ends what is left of it.
    Requeued,
    /// It is over and will not come again.
    Over(Over),
    /// The controller does not tell.
    Unknown(String),
}

/// Why a job is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Somebody ended it with `scancel`.
    Cancelled,
    /// Another job needed the nodes, and the partition's way of preemption is `CANCEL`.
    Preempted,
    /// Its time limit.
    TimeLimit,
    /// A node was lost, and it may not be queued again.
    NodeFailure,
    /// Something else: it failed, or completed.
    Other,
}

impl JobInfo {
    /// Asks for a job.
    ///
    /// # Errors
    /// The controller does not answer, or knows no such job (any more).
    pub fn ask(client: &Client, job: &str) -> Result<Self, Failure> {
        client
            .run("scontrol", ["-o", "show", "job", job])
            .map(|text| Self::parse(&text))
    }

    /// From one line of `scontrol -o show job`.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let fields = fields(line);
        let text = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
        let set = |name: &str| {
            !matches!(
                fields.get(name).copied(),
                None | Some("None" | "N/A" | "Unknown" | "(null)" | "")
            )
        };
        Self {
            state: text("JobState"),
            reason: text("Reason"),
            restarts: text("Restarts").parse().unwrap_or_default(),
            preempted: set("PreemptTime"),
            requeue: text("Requeue") == "1",
            out_of_time: seconds(&text("RunTime"))
                .zip(seconds(&text("TimeLimit")))
                .is_some_and(|(run, limit)| run >= limit),
            nodes: text("NodeList"),
        }
    }

    /// What this means for a supervisor whose job was restarted `restarts` times when it began.
    #[must_use]
    pub fn fate(&self, restarts: u32) -> Fate {
        if self.restarts > restarts {
            return Fate::Requeued;
        }
        match self.state.as_str() {
            "RUNNING" | "CONFIGURING" | "SUSPENDED" | "STOPPED" | "SIGNALING" | "STAGE_OUT"
                if self.preempted =>
            {
                Fate::Preempting
            }
            "RUNNING" | "CONFIGURING" | "SUSPENDED" | "STOPPED" | "SIGNALING" | "STAGE_OUT" => {
                Fate::Runs
            }
            "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT" => {
                Fate::Requeued
            }
            "CANCELLED" => Fate::Over(Over::Cancelled),
            "PREEMPTED" => Fate::Over(Over::Preempted),
            "TIMEOUT" | "DEADLINE" => Fate::Over(Over::TimeLimit),
            "NODE_FAIL" | "BOOT_FAIL" => Fate::Over(Over::NodeFailure),
            // The state that it completes to is not shown.
            "COMPLETING" if self.preempted => Fate::Over(Over::Preempted),
            "COMPLETING" if self.out_of_time => Fate::Over(Over::TimeLimit),
            "COMPLETING" if self.reason.contains("NodeDown") => Fate::Over(Over::NodeFailure),
            "COMPLETING" => Fate::Over(Over::Cancelled),
            _ => Fate::Over(Over::Other),
        }
    }
}

/// The words of `slurmstepd` in a job's output, which say why it is being ended even while the
/// controller does not answer: `*** JOB 9 ON n1 CANCELLED AT <time> DUE TO PREEMPTION ***`. Only the
/// last such line counts, and only one about this job.
#[must_use]
pub fn fate_in_output(output: &str, job: &str) -> Option<Fate> {
    let about = format!("*** JOB {job} ON ");
    let line = output
        .lines()
        .rev()
        .find(|line| line.contains(&about) && line.contains(" CANCELLED AT "))?;
    Some(match line.split_once(" DUE TO ").map(|(_, why)| why) {
        None => Fate::Over(Over::Cancelled),
        Some(why) if why.starts_with("TIME LIMIT") => Fate::Over(Over::TimeLimit),
        Some(why) if why.starts_with("JOB REQUEUE") => Fate::Requeued,
        // Whether it is queued again only the controller knows.
        Some(_) => return None,
    })
}

/// `Name=value` pairs of a line; a value may hold spaces as long as no word in it looks like a name.
fn fields(line: &str) -> BTreeMap<&str, &str> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .rev()
        .collect()
}

/// `[days-]hours:minutes:seconds` in seconds; `None` for `UNLIMITED`.
fn seconds(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u64>().ok()?, clock),
        None => (0, text),
    };
    let mut total = 0;
    for part in clock.split(':') {
        total = total * 60 + part.parse::<u64>().ok()?;
    }
    Some(days * 86400 + total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = "JobId=2 JobName=a b UserId=u(1) Requeue=1 JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=1 RunTime=00:00:05 TimeLimit=UNLIMITED PreemptEligibleTime=2026-11-23T23:29:33 PreemptTime=None NodeList=n[1-2]";

    fn with(changes: &[(&str, &str)]) -> JobInfo {
        let mut line = RUNNING.to_owned();
        for (from, to) in changes {
            assert!(line.contains(from));
            line = line.replace(from, to);
        }
        JobInfo::parse(&line)
    }

    #[test]
    fn what_scontrol_says_decides() {
        let preempt = ("PreemptTime=None", "PreemptTime=2026-11-23T23:29:57");
        let completing = ("JobState=RUNNING", "JobState=COMPLETING");
        let limit = ("TimeLimit=UNLIMITED", "TimeLimit=00:00:05");
        #[rustfmt::skip]
        let table = [
            (with(&[]), 1, Fate::Runs),
            (with(&[preempt]), 1, Fate::Preempting),
            (with(&[]), 0, Fate::Requeued),
            (with(&[completing]), 0, Fate::Requeued),
            (with(&[completing]), 1, Fate::Over(Over::Cancelled)),
            (with(&[completing, preempt]), 1, Fate::Over(Over::Preempted)),
            (with(&[completing, limit]), 1, Fate::Over(Over::TimeLimit)),
            (with(&[("RUNNING", "PENDING")]), 1, Fate::Requeued),
            (with(&[("RUNNING", "CANCELLED")]), 1, Fate::Over(Over::Cancelled)),
            (with(&[("RUNNING", "PREEMPTED")]), 1, Fate::Over(Over::Preempted)),
            (with(&[("RUNNING", "TIMEOUT")]), 1, Fate::Over(Over::TimeLimit)),
            (with(&[("RUNNING", "NODE_FAIL")]), 1, Fate::Over(Over::NodeFailure)),
            (with(&[("RUNNING", "FAILED")]), 1, Fate::Over(Over::Other)),
        ];
        for (info, restarts, fate) in table {
            assert_eq!(info.fate(restarts), fate, "{info:?}");
        }
        assert_eq!(with(&[]).nodes, "n[1-2]");
    }

    #[test]
    fn of_fields_of_one_name_the_first_counts() {
        let info = JobInfo::parse(
            "JobId=2 JobName=x JobState=CANCELLED UserId=u(1) JobState=RUNNING Restarts=0 PreemptTime=None Restarts=7",
        );
        // The name comes first: `rocket` gives its jobs names without spaces.
        assert_eq!(info.state, "CANCELLED");
        // A comment comes last, and cannot pretend to be a state.
        let info = JobInfo::parse(
            "JobId=2 JobName=x JobState=RUNNING Restarts=0 PreemptTime=None Comment=y JobState=CANCELLED Restarts=7",
        );
        assert_eq!((&*info.state, info.restarts), ("RUNNING", 0));
    }

    #[test]
    fn the_output_tells_when_the_controller_does_not() {
        let line = |why: &str| {
            format!(
                "x\nslurmstepd-n1: error: *** JOB 9 ON n1 CANCELLED AT 2026-11-23T23:32:18{why} ***\ny"
            )
        };
        let fate = |why: &str| fate_in_output(&line(why), "9");
        assert_eq!(fate(""), Some(Fate::Over(Over::Cancelled)));
        assert_eq!(
            fate(" DUE TO TIME LIMIT"),
            Some(Fate::Over(Over::TimeLimit))
        );
        assert_eq!(fate(" DUE TO JOB REQUEUE"), Some(Fate::Requeued));
        assert_eq!(fate(" DUE TO PREEMPTION"), None);
        assert_eq!(fate_in_output(&line(""), "99"), None);
        assert_eq!(fate_in_output("nothing", "9"), None);
    }
}
