//! Why a job waits, in words: the reasons of `squeue -o %r` (Slurm 22.05 to 25.11, its page "Job
//! Reason Codes" and `job_state_reason.c`) and the sentences that the controller puts in their place.

mod limit;

/// What is known of the job besides its reason; anything may be missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// Its id.
    pub job: Option<&'a str>,
    /// When it may start at the earliest, or is expected to, as Slurm prints it.
    pub start: Option<&'a str>,
    /// How often it was restarted.
    pub restarts: u32,
}

/// A reason in words.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explained {
    /// Why it waits: a clause without a capital or a final stop.
    pub words: String,
    /// What to do about it; nothing where waiting is all there is.
    pub action: Option<String>,
    /// Slurm holds it: it starts only after a release.
    pub held: bool,
    /// It will not start as it is: held, or its request cannot be met.
    pub stuck: bool,
}

impl Explained {
    fn waits(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            action: None,
            held: false,
            stuck: false,
        }
    }

    fn stuck(words: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            action: Some(action.into()),
            stuck: true,
            ..Self::waits(words)
        }
    }

    fn held(words: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            held: true,
            ..Self::stuck(words, action)
        }
    }

    fn action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }
}

/// Explains a reason. One that is not known is shown as it is.
#[must_use]
pub fn explain(reason: &str, about: &About<'_>) -> Explained {
    // scontrol prints sentences with underscores, and squeue's list has its reason in brackets.
    let text = reason.trim();
    let within = text
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    let text = within.unwrap_or(text);
    let text = text.replace('_', " ");
    let job = about.job.unwrap_or("<job id>");
    sentence(&text, job)
        .or_else(|| code(&text, job, about))
        .or_else(|| limit::explain(&text, job))
        .unwrap_or_else(|| Explained::waits(format!("Slurm says: {text}")))
}

/// Reasons that are sentences, or carry something after a comma.
fn sentence(text: &str, job: &str) -> Option<Explained> {
    let release = format!("see why with 'rocket logs', then: scontrol release {job}");
    let lower = text.to_lowercase();
    if let Some(rest) = text.strip_prefix("ReqNodeNotAvail") {
        return Some(not_available(rest.trim_start_matches([',', '(', ' ']), job));
    }
    Some(match lower.as_str() {
        text if text.starts_with("nodes required for job are down") => Explained::waits(
            "too few of the partition's nodes are up and free: the others are down, drained or kept for partitions of higher priority",
        )
        .action("look at the nodes with 'sinfo -R'; nothing need be done if they are only kept for others"),
        text if text.contains("launch fail") && text.contains("held") => Explained::held(
            "a node could not launch it, so Slurm requeued and holds it",
            format!("exclude the node if its name repeats: scontrol update JobId={job} ExcNodeList=<node>, then: scontrol release {job}"),
        ),
        "job requeued in held state" => {
            Explained::held("it was requeued and is held (scontrol requeuehold, or the exit code is in RequeueExitHold)", release)
        }
        text if text.starts_with("job requeued in special exit state") => {
            Explained::held("it ended with an exit code that this cluster holds (RequeueExitHold)", release)
        }
        text if text.starts_with("prolog launch failure") || text.starts_with("prolog") && text.contains("fail") => {
            Explained::waits("the cluster's prolog failed on a node; Slurm tries again elsewhere")
                .action("tell the administrators if it repeats: a prolog is theirs")
        }
        _ => return None,
    })
}

fn not_available(rest: &str, job: &str) -> Explained {
    let lower = rest.to_lowercase();
    if lower.contains("maintenance") {
        return Explained::waits(
            "a maintenance reservation begins before its time limit would end",
        )
        .action(format!(
            "wait until it is over, or make it fit before: scontrol update JobId={job} TimeLimit=<less>"
        ));
    }
    if lower.contains("reserved for other job") {
        return Explained::waits("nodes that it could use are kept for jobs before it");
    }
    if let Some((_, nodes)) = rest
        .strip_prefix("Unavailable")
        .and_then(|rest| rest.split_once(':'))
    {
        let nodes = nodes.trim_matches([')', ' ']);
        let nodes = if nodes.is_empty() {
            "nodes that it could use".to_owned()
        } else {
            nodes.to_owned()
        };
        return Explained::waits(format!(
            "too few nodes are left: {nodes} cannot be used now (down, drained or reserved)"
        ))
        .action("'sinfo -R' says why nodes are down");
    }
    Explained::waits("a node that it asks for cannot be used now (down, drained or reserved)").action(
        format!(
            "'sinfo -R' says why; if it asks for that node by name: scontrol update JobId={job} ReqNodeList="
        ),
    )
}

/// Reasons that are one word.
fn code(text: &str, job: &str, about: &About<'_>) -> Option<Explained> {
    use Explained as E;
    let ask = "ask the administrators, or choose another in the 'cluster' section and submit again";
    let fewer = format!(
        "ask for less: scontrol update JobId={job} TimeLimit=<time> or NumNodes=<nodes>, or submit again with another 'cluster' section"
    );
    Some(match text {
        "" | "None" => E::waits("the scheduler has not looked at it yet"),
        "Resources" => E::waits(format!(
            "it is next in line and waits for free nodes{}",
            expected(about)
        )),
        "Priority" => E::waits(format!(
            "jobs of higher priority come first{}",
            expected(about)
        )),
        "Dependency" => E::waits("it waits for the job that it depends on to end"),
        "DependencyNeverSatisfied" => E::stuck(
            "the job that it depends on ended in a way that never lets it start",
            format!("take the dependency away: scontrol update JobId={job} Dependency="),
        ),
        "JobHeldUser" => E::held("it is held by its owner", format!("scontrol release {job}")),
        "JobHeldAdmin" => E::held(
            "it is held by an administrator, or by Slurm after a failure",
            format!(
                "see 'scontrol show job {job}'; only an administrator can release it, unless Slurm itself held it: scontrol release {job}"
            ),
        ),
        "JobHoldMaxRequeue" => E::held(
            format!(
                "Slurm requeued it too often{} (MaxBatchRequeue, 5 by default) and holds it; each preemption, lost node or failed launch counts",
                restarts(about)
            ),
            format!("scontrol release {job}"),
        ),
        "BeginTime" => E::waits(begin(about)),
        "Reservation" => E::waits("its reservation has not begun, or is in use"),
        "ReservationDeleted" => E::stuck(
            "its reservation is gone",
            format!("scontrol update JobId={job} ReservationName="),
        ),
        "ReservationInvalid" => E::stuck(
            "its reservation does not fit it",
            format!("scontrol update JobId={job} ReservationName="),
        ),
        "PartitionDown" => E::waits("its partition is down").action(format!(
            "wait for the administrators, or: scontrol update JobId={job} Partition=<another>"
        )),
        "PartitionInactive" => {
            E::waits("its partition is inactive and starts nothing").action(format!(
                "wait for the administrators, or: scontrol update JobId={job} Partition=<another>"
            ))
        }
        "PartitionConfig" => E::stuck("no partition that it names can run what it asks for", fewer),
        "PartitionTimeLimit" => E::stuck(
            "its time limit is longer than the partition allows",
            format!(
                "scontrol update JobId={job} TimeLimit=<MaxTime of the partition>; the run goes on after each limit anyway"
            ),
        ),
        "PartitionNodeLimit" => E::stuck(
            "it asks for more (or fewer) nodes than the partition allows, or the nodes that it needs are down",
            format!(
                "see 'sinfo' and MaxNodes in 'scontrol show partition'; scontrol update JobId={job} Partition=<another>"
            ),
        ),
        "BadConstraints" | "Constraints" => E::stuck(
            "no node has what it asks for (constraint, GPUs, memory or CPUs of a node)",
            "compare 'cluster' in the experiment with 'sinfo -o \"%N %f %G %c %m\"', and submit again",
        ),
        "AccountNotAllowed" => E::stuck("its account may not use this partition", ask),
        "QOSNotAllowed" => E::stuck(
            "its QOS may not be used with this account or partition",
            ask,
        ),
        "InvalidAccount" => E::stuck("its account is not valid (any more)", ask),
        "InvalidQOS" => E::stuck("its QOS is not valid (any more)", ask),
        "QOSUsageThreshold" => E::waits("its QOS demands a higher fair share than it has left")
            .action("wait until past use has decayed, or choose another qos"),
        "AccountingPolicy" => E::waits("a limit of its account or QOS stops it")
            .action("'sacctmgr show assoc' and 'sacctmgr show qos' list the limits"),
        "MaxMemPerLimit" => E::stuck(
            "it asks for more memory per node or CPU than the cluster or partition allows",
            "lower 'cluster.mem' and submit again",
        ),
        "Licenses" => E::waits("it waits for a licence"),
        "NodeDown" => E::waits("a node that it needs is down").action("'sinfo -R' says why"),
        "FrontEndDown" => E::waits("the front-end node is down"),
        "Prolog" => E::waits("the cluster's prolog still runs on its nodes; it starts after that"),
        "Cleaning" => E::waits(
            "what its last run left on the nodes is being cleaned up; it starts after that",
        ),
        "JobArrayTaskLimit" => E::waits("its array has as many tasks running as it allows"),
        "SchedDefer" => E::waits("the scheduler was asked to start nothing at once (defer)"),
        "FedJobLock" => E::waits("the clusters of the federation have not agreed who runs it"),
        "BurstBufferResources" => E::waits("it waits for room in the burst buffer"),
        "BurstBufferStageIn" => E::waits("its data is being copied to the burst buffer"),
        "BurstBufferOperation" => E::held(
            "an operation on the burst buffer failed",
            format!("scontrol release {job} after the cause is gone (scontrol show burst)"),
        ),
        "PowerNotAvail" | "PowerReserved" => E::waits("the cluster's power budget is used up"),
        "DeadLine" => E::stuck(
            "it cannot end before its deadline",
            format!("scontrol update JobId={job} Deadline="),
        ),
        "SystemFailure" => E::waits("Slurm, a file system or the network failed under it")
            .action("'scontrol show job' and the administrators know more"),
        "JobLaunchFailure" => E::waits("a node could not launch it").action(format!(
            "exclude the node if its name repeats: scontrol update JobId={job} ExcNodeList=<node>"
        )),
        // Of jobs that have ended, as `squeue --states=all` shows them.
        "NonZeroExitCode" => E::waits("it ended with an exit code other than 0"),
        "RaisedSignal" => E::waits("it was ended by a signal"),
        "TimeLimit" => E::waits("it reached its time limit"),
        "InactiveLimit" => E::waits("it was ended as inactive (InactiveLimit)"),
        "OutOfMemory" => {
            E::waits("it used more memory than it had asked for").action("raise 'cluster.mem'")
        }
        _ => return None,
    })
}

fn expected(about: &About<'_>) -> String {
    known(about.start).map_or(String::new(), |time| {
        format!("; Slurm expects to start it at {time}")
    })
}

fn begin(about: &About<'_>) -> String {
    let at = known(about.start).map_or(String::new(), |time| {
        format!(": it starts at {time} at the earliest")
    });
    if about.restarts > 0 {
        format!(
            "it was requeued, and Slurm waits until its old credentials have expired (cred_expire, 120 s by default){at}"
        )
    } else {
        format!(
            "its begin time has not come, or it was requeued and waits until its old credentials have expired (cred_expire, 120 s by default){at}"
        )
    }
}

fn restarts(about: &About<'_>) -> String {
    match about.restarts {
        0 => String::new(),
        count => format!(", {count} times in all"),
    }
}

/// A time as Slurm prints it, where there is one.
fn known(time: Option<&str>) -> Option<&str> {
    time.filter(|time| !matches!(*time, "" | "N/A" | "Unknown" | "(null)" | "None"))
}

#[cfg(test)]
mod tests;
