//! Slurm as a backend: supervisors are batch steps, ranks are the tasks of `srun`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{BackendKind, Experiment};
use rocket_common::run_dir::{Intent, JobRecord, Manifest, RunDir};

use super::allocation::{Allocation, Node};
use super::job::{Fate, JobInfo, Over, fate_in_output};
use super::queue::{Queue, QueuedJob};
use super::reason::{self, About};
use super::submission::Submission;
use super::{Client, Failure, step};
use crate::backend::{Backend, Handover, Launch, Liveness, Outlook, Requeued, Running, free_port};
use crate::sweep::turn;

/// A picture of the queue serves that long: a follower asks several times a second.
const FRESH: Duration = Duration::from_secs(15);
/// Longer than any submission takes.
const HANDOVER: Duration = Duration::from_secs(900);
/// Reading commands wait that long for a controller.
const ASKING: Duration = Duration::from_secs(5);

/// Slurm.
#[derive(Default)]
pub struct Slurm {
    queue: Mutex<Option<(Instant, Arc<Asked>)>>,
    users: Mutex<BTreeSet<String>>,
    allocation: OnceLock<Allocation>,
    /// Length of the job's output when this supervisor began: what is before belongs to earlier starts
    /// of the same job, which Slurm appends to.
    said_before: OnceLock<u64>,
}

type Asked = std::result::Result<Queue, Failure>;

/// A picture of the queue is whole or absent, whoever panicked while it was held.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slurm {
    /// Whether runs go to Slurm by default: where its programs are, and belong to a cluster.
    #[must_use]
    pub fn is_here() -> bool {
        Client::find("sbatch").is_some() && Client::has_cluster()
    }

    /// One picture of the queue for every run that is asked about.
    fn queue(&self, user: &str) -> Arc<Asked> {
        let known = user.is_empty() || !locked(&self.users).insert(user.to_owned());
        // Held while Slurm is asked: whoever else wants to know waits for the same answer.
        let mut queue = locked(&self.queue);
        match &*queue {
            Some((asked, queue)) if known && asked.elapsed() < FRESH => Arc::clone(queue),
            _ => {
                let users = locked(&self.users).clone();
                let asked = Arc::new(Queue::ask(&Client::new(ASKING), &users));
                *queue = Some((Instant::now(), Arc::clone(&asked)));
                asked
            }
        }
    }

    fn allocation(&self) -> Result<&Allocation> {
        if self.allocation.get().is_none() {
            let found = Allocation::from_env(&inside())?;
            let _ = self.allocation.set(found);
        }
        self.allocation
            .get()
            .ok_or_else(|| Error::new(ExitKind::Internal, "the allocation is not known"))
    }

    /// The last words of slurmstepd in the job's output since this supervisor began.
    fn said_in_output(&self, run: &RunDir, job: &str) -> Option<Fate> {
        let before = self.said_before.get().copied().unwrap_or_default();
        said_behind(&output_of(run, job), before, job)
    }

    /// Address of the first node, as Slurm itself reaches it; its name while that is not to be had.
    fn master(&self, allocation: &Allocation) -> String {
        let Some(first) = allocation.nodes.first() else {
            return rocket_common::host::name();
        };
        match Node::ask(&inside(), std::slice::from_ref(first)) {
            Ok(nodes) if !nodes.is_empty() => nodes[0].address.clone(),
            _ => first.clone(),
        }
    }
}

impl Backend for Slurm {
    fn kind(&self) -> BackendKind {
        BackendKind::Slurm
    }

    fn prepare(&self, users: &BTreeSet<String>) {
        locked(&self.users).extend(users.iter().cloned());
    }

    fn submit(&self, handover: &Handover<'_>) -> Result<Option<String>> {
        let Handover {
            run,
            manifest,
            why,
            exclude,
            after,
            number,
            lost,
            patience,
        } = *handover;
        let number = match number {
            Some(number) => number,
            None => run.highest_submission()?.map_or(0, |highest| highest + 1),
        };
        let submission = Submission {
            run,
            manifest,
            number,
            why,
            exclude,
            after,
            lost,
            patience,
        };
        let client = match self.allocation.get() {
            Some(_) => inside(),
            None => Client::default(),
        };
        let job = submission.carry_out(&client)?;
        // A picture from before does not show it.
        locked(&self.queue).take();
        Ok(Some(job))
    }

    fn outlook(&self, run: &RunDir, manifest: &Manifest) -> Result<Outlook> {
        let Some(number) = run.highest_submission()? else {
            return Ok(Outlook::of(Liveness::Gone));
        };
        let record = run.job_of(number)?;
        let mut outlook = Outlook {
            job: record.as_ref().map(|record| record.job.clone()),
            ..Outlook::of(Liveness::Gone)
        };
        let Some(intent) = run.intent(number)? else {
            return Ok(outlook);
        };
        match &*self.queue(&manifest.user) {
            Ok(queue) => match queue.with_token(&intent.claim.token) {
                Some(job) if !job.is_over() => {
                    outlook.liveness = Liveness::Alive;
                    outlook.job = Some(job.id.clone());
                    describe(&mut outlook, job);
                    let limited = manifest.sweep.as_ref().filter(|sweep| sweep.lane.is_some());
                    if let (true, Some(sweep)) = (job.is_pending(), limited)
                        && job.reason == "Dependency"
                    {
                        outlook.waiting = Some(turn::words(&sweep.id));
                        outlook.hint = None;
                    }
                }
                Some(_) => {}
                // Between the intent and the answer of sbatch.
                None if record.is_none() => match intent.claim.is_alive() {
                    Some(true) => {
                        outlook.liveness = Liveness::Alive;
                        outlook.waiting = Some("is being handed to Slurm".into());
                    }
                    Some(false) => {}
                    None if age(&intent) < HANDOVER => outlook.liveness = Liveness::Unknown,
                    None => {}
                },
                None => {}
            },
            Err(failure) => {
                outlook.liveness = Liveness::Unknown;
                outlook.trouble = Some(format!(
                    "Slurm's controller does not answer ({}); what is shown is what the events know",
                    failure.words
                ));
            }
        }
        Ok(outlook)
    }

    fn end_job(&self, job: &str) -> Result<()> {
        Client::default().run("scancel", [job])?;
        locked(&self.queue).take();
        Ok(())
    }

    fn epitaph(&self, job: &str) -> Option<Over> {
        let client = Client::new(ASKING);
        let over = |fate| match fate {
            Fate::Over(over) => Some(over),
            _ => None,
        };
        if let Ok(info) = JobInfo::ask(&client, job) {
            return over(info.fate(u32::MAX));
        }
        // The controller forgets after some minutes (MinJobAge); accounting, where there is one, does not.
        let arguments = [
            "--noheader",
            "--allocations",
            "--parsable2",
            "--format=State",
            "--jobs",
            job,
        ];
        let text = client.run("sacct", arguments).ok()?;
        let state = text.split_whitespace().next()?.to_owned();
        over(
            JobInfo {
                state,
                ..JobInfo::default()
            }
            .fate(u32::MAX),
        )
    }

    fn enter(&self, run: &RunDir, submission: Option<u32>) -> Result<()> {
        let allocation = self.allocation()?;
        let output = std::fs::metadata(output_of(run, &allocation.job));
        let _ = self
            .said_before
            .set(output.map_or(0, |output| output.len()));
        let superseded = |words: String| Error::new(ExitKind::Fenced, words);
        let Some(number) = submission else {
            return Ok(());
        };
        if let Some(highest) = run
            .highest_submission()?
            .filter(|highest| *highest > number)
        {
            return Err(superseded(format!(
                "job {} is submission {number} of the run, and submission {highest} has taken its place",
                allocation.job
            )));
        }
        let record = JobRecord {
            cluster: allocation.cluster.clone(),
            job: allocation.job.clone(),
            time: jiff::Timestamp::now(),
        };
        if !run.record_job(number, &record)?
            && let Some(other) = run.job_of(number)?.filter(|other| other.job != record.job)
        {
            return Err(superseded(format!(
                "submission {number} of the run is job {}, and this is job {}",
                other.job, record.job
            )));
        }
        Ok(())
    }

    fn job(&self) -> Option<String> {
        self.allocation()
            .ok()
            .map(|allocation| allocation.job.clone())
    }

    fn writer(&self) -> String {
        match self.allocation() {
            Ok(Allocation { job, restarts, .. }) => format!("job-{job}-{restarts}"),
            Err(_) => "supervisor".into(),
        }
    }

    fn nodes(&self) -> Vec<String> {
        self.allocation()
            .map(|allocation| allocation.nodes.clone())
            .unwrap_or_default()
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<Running> {
        let allocation = self.allocation()?;
        let experiment = Experiment::read(&launch.run.experiment_path())?;
        let manifest = launch.run.manifest()?;
        let port = launch
            .choose_port
            .then(|| free_port("0.0.0.0"))
            .transpose()?;
        step::launch(
            launch,
            &experiment.cluster,
            &step::rocket(&manifest.bundle.dir),
            &self.master(allocation),
            port,
        )
    }

    fn fate(&self, run: &RunDir) -> Fate {
        let Ok(allocation) = self.allocation() else {
            return Fate::Runs;
        };
        match JobInfo::ask(&inside(), &allocation.job) {
            Ok(info) => match info.fate(allocation.restarts) {
                // The controller hides why a job completes; its output may say.
                Fate::Over(Over::Cancelled) => self
                    .said_in_output(run, &allocation.job)
                    .unwrap_or(Fate::Over(Over::Cancelled)),
                fate => fate,
            },
            Err(failure) if failure.is_unclear() => self
                .said_in_output(run, &allocation.job)
                .unwrap_or(Fate::Unknown(failure.words)),
            Err(failure) => {
                tracing::warn!("{}", failure.words);
                Fate::Over(Over::Other)
            }
        }
    }

    fn sick(&self, nodes: &[String]) -> Vec<(String, String)> {
        if nodes.is_empty() {
            return Vec::new();
        }
        Node::ask(&inside(), nodes)
            .unwrap_or_default()
            .into_iter()
            .filter(Node::is_sick)
            .map(|node| (node.name, node.state))
            .collect()
    }

    fn requeue(&self, exclude: &[String]) -> Result<Requeued> {
        let allocation = self.allocation()?;
        let client = inside();
        match client.run("scontrol", ["requeue", &allocation.job]) {
            Ok(_) => {}
            Err(failure) if failure.is_unclear() => return Ok(Requeued::Silent(failure.words)),
            Err(failure) => return Ok(Requeued::Refused(failure.words)),
        }
        if !exclude.is_empty() {
            // Only a job that waits can be changed, which this one does from now on.
            let job = format!("JobId={}", allocation.job);
            let nodes = format!("ExcNodeList={}", exclude.join(","));
            if let Err(failure) = client.run("scontrol", ["update", &job, &nodes]) {
                tracing::warn!("the nodes are not excluded: {}", failure.words);
                return Ok(Requeued::Done { excluded: false });
            }
        }
        Ok(Requeued::Done { excluded: true })
    }
}

/// For the supervisor, which asks most when its job is being ended: SIGTERM goes to everything that
/// it has started.
fn inside() -> Client {
    Client::new(Duration::from_secs(30)).through_the_end()
}

/// How long ago a submission was meant, by this host's clock. It decides only when a submission from
/// another host that came to nothing is repeated; should it come after all, the numbers fence it off.
fn age(intent: &Intent) -> Duration {
    intent
        .time
        .duration_until(jiff::Timestamp::now())
        .unsigned_abs()
}

/// Says in the outlook what a job in the queue waits for.
fn describe(outlook: &mut Outlook, job: &QueuedJob) {
    outlook.running = !job.is_pending();
    if !job.is_pending() {
        return;
    }
    let explained = reason::explain(
        &job.reason,
        &About {
            job: Some(&job.id),
            start: job.start.as_deref(),
            restarts: 0,
        },
    );
    outlook.waiting = Some(explained.words);
    outlook.hint = explained.action;
    outlook.held = explained.held;
}

/// Where the output of a job goes.
fn output_of(run: &RunDir, job: &str) -> PathBuf {
    run.path().join(format!("slurm-{job}.out"))
}

/// The last words of slurmstepd in an output, behind its first `before` bytes.
fn said_behind(output: &Path, before: u64, job: &str) -> Option<Fate> {
    let mut file = File::open(output).ok()?;
    file.seek(SeekFrom::Start(before)).ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    fate_in_output(&String::from_utf8_lossy(&text), job)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_to_an_earlier_start_of_the_job_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("slurm-9.out");
        let line = "slurmstepd: error: *** JOB 9 ON n1 CANCELLED AT 2026-11-23T23:32:18 DUE TO JOB REQUEUE ***\n";
        assert_eq!(said_behind(&output, 0, "9"), None, "no output");
        std::fs::write(&output, line).unwrap();
        let before = line.len() as u64;
        assert_eq!(said_behind(&output, before, "9"), None);
        assert_eq!(said_behind(&output, before + 1, "9"), None, "cut off");
        std::fs::write(&output, format!("{line}words\n{line}")).unwrap();
        let fate = said_behind(&output, before, "9");
        assert_eq!(fate, Some(Fate::Requeued));
    }
}
