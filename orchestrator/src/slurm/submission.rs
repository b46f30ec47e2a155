//! Handing a run over to Slurm, once: the intent is on the disk, with a token, before `sbatch` is
//! asked; after an answer that was lost, the token tells whether the job exists.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::events::{Event, EventKind, EventWriter};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;
use rocket_common::run_dir::{Claim, Intent, JobRecord, Manifest, RunDir};

use super::queue::Queue;
use super::script::{self, Script, Successor};
use super::{Client, Failure};

/// Between two tries while the controller does not answer.
const RETRY: Duration = Duration::from_secs(5);

/// A hand-over.
pub(crate) struct Submission<'a> {
    /// The run.
    pub(crate) run: &'a RunDir,
    /// What was submitted.
    pub(crate) manifest: &'a Manifest,
    /// Its number: one more than the highest that the caller knew of when it decided.
    pub(crate) number: u32,
    /// Why: `submit`, `resume`, `heal`, ...
    pub(crate) why: &'a str,
    /// Nodes that are not to be used, besides the experiment's.
    pub(crate) exclude: &'a [String],
    /// Job that must be gone before this one starts.
    pub(crate) after: Option<&'a str>,
    /// What is noted of the supervisor before, which was found dead.
    pub(crate) lost: Option<&'a Event>,
    /// How long to wait for a controller that does not answer.
    pub(crate) patience: Duration,
}

impl Submission<'_> {
    /// Hands over, and gives the job.
    ///
    /// # Errors
    /// Somebody else has taken the number (kind [`ExitKind::Fenced`]), Slurm refuses, or its
    /// controller does not answer for longer than the patience: the intent then stays, and `rocket
    /// heal` or `rocket resume` carry on from it.
    pub(crate) fn carry_out(&self, client: &Client) -> Result<String> {
        let experiment = Experiment::read(&self.run.experiment_path())?;
        let claim = Claim::of_this_process(None);
        let script = self.script(&experiment, &claim.token)?;
        let intent = Intent {
            claim,
            time: Timestamp::now(),
            why: self.why.to_owned(),
        };
        if !self.run.claim_submission(self.number, &intent)? {
            return Err(Error::new(
                ExitKind::Fenced,
                format!(
                    "run {} is being submitted by somebody else at this moment",
                    self.run.id()
                ),
            ));
        }
        let path = self.run.submission_script_path(self.number);
        atomic::write_unsynced(&path, script.as_bytes())?;
        let newest = self.run.job_script_path();
        atomic::write_unsynced(&newest, script.as_bytes())?;
        let mut events = EventWriter::new(self.run, &writer(self.number));
        if let Some(lost) = self.lost {
            events.append(lost.clone())?;
        }
        let job = self.until_accepted(client, &path, &intent.claim.token)?;
        let record = JobRecord {
            cluster: job.cluster,
            job: job.id.clone(),
            time: Timestamp::now(),
        };
        // The job itself may have been quicker to note it.
        self.run.record_job(self.number, &record)?;
        let event = Event::new(EventKind::Queued).job(&job.id).cause(self.why);
        events.append(event)?;
        if experiment.cluster.successor {
            self.successor(client, &experiment, &job.id, &intent.claim.token);
        }
        Ok(job.id)
    }

    /// The name of its jobs, where a sweep limits how many of its points run at once.
    fn lane(&self) -> Option<&str> {
        self.manifest.sweep.as_ref()?.lane.as_deref()
    }

    fn script(&self, experiment: &Experiment, token: &str) -> Result<String> {
        script::render(&Script {
            cluster: &experiment.cluster,
            run_id: &self.run.id(),
            lane: self.lane(),
            run_dir: self.run.path(),
            rocket: &super::step::rocket(&self.manifest.bundle.dir),
            submission: self.number,
            token,
            exclude: self.exclude,
        })
    }

    fn until_accepted(&self, client: &Client, script: &Path, token: &str) -> Result<Accepted> {
        let start = Instant::now();
        let mut said = false;
        loop {
            let failure = match sbatch(client, script, self.after, self.lane().is_some()) {
                Ok(accepted) => return Ok(accepted),
                Err(failure) => failure,
            };
            if !failure.is_unclear() {
                return Err(refused(failure, self));
            }
            // Accepted or not? Only the queue knows, and only once it answers.
            match Queue::ask(client, &BTreeSet::new()) {
                Ok(queue) => {
                    if let Some(job) = queue.with_token(token) {
                        return Ok(Accepted {
                            id: job.id.clone(),
                            cluster: String::new(),
                        });
                    }
                }
                Err(silent) if silent.is_unclear() => {}
                Err(other) => return Err(other.into()),
            }
            if start.elapsed() >= self.patience {
                let id = self.run.id();
                return Err(Error::from(failure)
                    .hint(format!("run {id} is prepared, and nothing is lost: 'rocket resume {id}' hands it over later, and so does 'rocket heal'")));
            }
            if !std::mem::replace(&mut said, true) {
                eprintln!(
                    "Slurm's controller does not answer ({}); trying again for {} minutes ...",
                    failure.words,
                    self.patience.as_secs().div_ceil(60)
                );
            }
            std::thread::sleep(RETRY);
        }
    }

    /// The small job that does what `rocket heal` would after this one. Without it the run goes on
    /// all the same, so that a refusal is a warning.
    fn successor(&self, client: &Client, experiment: &Experiment, job: &str, token: &str) {
        let result = script::render_successor(&Successor {
            cluster: &experiment.cluster,
            run_id: &self.run.id(),
            run_dir: self.run.path(),
            rocket: &super::step::rocket(&self.manifest.bundle.dir),
            after: job.parse().unwrap_or_default(),
            token,
        })
        .and_then(|script| {
            let path = self
                .run
                .submissions_dir()
                .join(format!("{:03}.successor.sbatch", self.number));
            atomic::write_unsynced(&path, script.as_bytes())?;
            sbatch(client, &path, None, false).map_err(Error::from)
        });
        if let Err(error) = result {
            eprintln!("warning: the successor job was not submitted: {error}");
        }
    }
}

/// The event writer of a submission: its number is this process's alone.
pub(crate) fn writer(number: u32) -> String {
    format!("submission-{number:03}")
}

/// What `sbatch` answered.
struct Accepted {
    id: String,
    cluster: String,
}

fn sbatch(
    client: &Client,
    script: &Path,
    after: Option<&str>,
    lane: bool,
) -> std::result::Result<Accepted, Failure> {
    let mut arguments = vec![OsString::from("--parsable")];
    // Not afternotok: the run itself knows whether anything is left to do. The option replaces the
    // script's own, which says no more than the lane.
    let lane = if lane { ",singleton" } else { "" };
    arguments.extend(after.map(|job| format!("--dependency=afterany:{job}{lane}").into()));
    arguments.push(script.into());
    let text = client.run("sbatch", arguments)?;
    // Prologs of a site may print before it.
    let line = text.lines().last().unwrap_or_default().trim();
    let (id, cluster) = line.split_once(';').unwrap_or((line, ""));
    Ok(Accepted {
        id: id.to_owned(),
        cluster: cluster.to_owned(),
    })
}

/// A refusal, with what to do about it where that is known.
fn refused(failure: Failure, submission: &Submission<'_>) -> Error {
    let words = failure.words.to_lowercase();
    let error = Error::from(failure);
    // Slurm names a refused account together with the partition.
    let hint = if words.contains("account") {
        "'cluster.account' names the account; 'sacctmgr show associations user=$USER' lists yours"
    } else if words.contains("partition") {
        "'cluster.partition' names the partition; 'sinfo --summarize' lists those that there are"
    } else if words.contains("qos") {
        "'cluster.qos' names the quality of service; 'sacctmgr show qos' lists those that there are"
    } else if words.contains("node count") || words.contains("configuration is not available") {
        "'cluster.nodes', 'gpus_per_node', 'cpus_per_task', 'mem' and 'constraint' say what is asked for; 'sinfo -N --long' what there is"
    } else if words.contains("time limit") {
        "'cluster.time' is the time limit; 'scontrol show partition' tells the partition's"
    } else {
        return error.hint(format!(
            "the script is '{}'",
            submission.run.job_script_path().display()
        ));
    };
    error.hint(hint)
}
