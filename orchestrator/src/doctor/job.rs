//! A short job that looks at nodes: what they see of the runs root, of each other, and of the
//! trainer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rocket_common::atomic;
use serde::Serialize;

use super::cluster::PartitionView;
use super::finding::Finding;
use super::judge::{Between, judge};
use super::local::make_folder;
use super::probe::{self, Found};
use crate::bundle;
use crate::slurm::reason::{self, About};
use crate::slurm::{Client, Failure};

/// Spacing of questions to Slurm.
const ASK: Duration = Duration::from_secs(2);
/// How long results may take to be seen here after the job is gone.
const LINGER: Duration = Duration::from_secs(10);

/// What to try.
#[derive(Debug, Clone)]
pub struct Request {
    /// Nodes; fewer where the partition has fewer.
    pub nodes: u32,
    /// Partition; the default one if absent.
    pub partition: Option<String>,
    /// Account.
    pub account: Option<String>,
    /// Quality of service.
    pub qos: Option<String>,
    /// Longest wait.
    pub wait: Duration,
}

/// How it went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct JobView {
    /// Its id.
    pub job: Option<String>,
    /// Seconds from the submission to the first sign of life.
    pub started_after_s: Option<f64>,
    /// What its processes found.
    pub probes: Vec<Found>,
    /// All that, judged.
    pub findings: Vec<Finding>,
}

/// Submits the job, waits for it, and judges what it found.
#[must_use]
pub fn run(
    client: &Client,
    request: &Request,
    view: Option<&PartitionView>,
    root: &Path,
    rocket: &Path,
) -> JobView {
    let mut job = JobView::default();
    if let Err(finding) = examine(client, request, view, root, rocket, &mut job) {
        job.findings.push(finding);
    }
    job
}

fn examine(
    client: &Client,
    request: &Request,
    view: Option<&PartitionView>,
    root: &Path,
    rocket: &Path,
    job: &mut JobView,
) -> Result<(), Finding> {
    let worker = bundle::find_worker(rocket).ok();
    // The programs as a run would find them: from the runs root, with their libraries.
    let bundle = bundle::make(&root.join(bundle::FOLDER), rocket, worker.as_deref())
        .map_err(|error| Finding::problem(error.to_string()))?;
    let dir = make_folder(root).map_err(Finding::problem)?;
    let probe = Probe {
        dir: dir.clone(),
        rocket: bundle.dir.join(bundle::ROCKET),
        worker: worker.map(|_| bundle.dir.join(bundle::WORKER)),
        nodes: view.map_or(request.nodes, |view| {
            let most = u32::try_from(view.partition.nodes)
                .unwrap_or(u32::MAX)
                .max(1);
            request.nodes.min(most)
        }),
        gpus: view.is_some_and(|view| view.groups.iter().any(|group| group.gpus > 0)),
    };
    let result = probe.submit(client, request).and_then(|id| {
        job.job = Some(id.clone());
        probe.wait(client, &id, request, job)
    });
    let _ = fs::remove_dir_all(&dir);
    result
}

struct Probe {
    dir: PathBuf,
    rocket: PathBuf,
    worker: Option<PathBuf>,
    nodes: u32,
    gpus: bool,
}

impl Probe {
    fn script(&self) -> String {
        let worker = self.worker.as_ref().map_or(String::new(), |worker| {
            format!(" --probe-worker {}", quoted(worker))
        });
        format!(
            "#!/bin/bash\nexec srun --nodes={0} --ntasks={0} --ntasks-per-node=1 --kill-on-bad-exit=0 --export=ALL {1} doctor --probe {2}{worker}\n",
            self.nodes,
            quoted(&self.rocket),
            quoted(&self.dir),
        )
    }

    fn submit(&self, client: &Client, request: &Request) -> Result<String, Finding> {
        let script = self.dir.join("job.sbatch");
        fs::write(&script, self.script()).map_err(|error| Finding::problem(error.to_string()))?;
        let mut options = vec![
            "--parsable".to_owned(),
            "--job-name=rocket-doctor".into(),
            format!("--nodes={}", self.nodes),
            "--ntasks-per-node=1".into(),
            "--cpus-per-task=1".into(),
            "--mem=2G".into(),
            "--time=5".into(),
            "--no-requeue".into(),
            "--export=PATH,HOME".into(),
            format!("--chdir={}", self.dir.display()),
            format!("--output={}", self.dir.join("job.out").display()),
        ];
        if self.gpus {
            options.push("--gres=gpu:1".into());
        }
        for (name, value) in [
            ("partition", &request.partition),
            ("account", &request.account),
            ("qos", &request.qos),
        ] {
            if let Some(value) = value {
                options.push(format!("--{name}={value}"));
            }
        }
        options.push(script.display().to_string());
        let text = client
            .run("sbatch", &options)
            .map_err(|failure| refused(&failure))?;
        // `id;cluster` where there are several clusters.
        let id = text.trim().split(';').next().unwrap_or_default();
        Ok(id.to_owned())
    }

    fn wait(
        &self,
        client: &Client,
        id: &str,
        request: &Request,
        job: &mut JobView,
    ) -> Result<(), Finding> {
        let start = Instant::now();
        let mut asked = Instant::now();
        let mut gone: Option<Instant> = None;
        let mut said = String::new();
        loop {
            if job.started_after_s.is_none() && self.dir.join(probe::hello_name(0)).exists() {
                job.started_after_s = Some(start.elapsed().as_secs_f64());
            }
            let found: Vec<Found> = (0..self.nodes)
                .filter_map(|rank| {
                    atomic::read_json_opt(&self.dir.join(probe::result_name(rank))).ok()?
                })
                .collect();
            if found.len() == self.nodes as usize {
                job.findings.extend(judge(&found, Between::Nodes));
                job.probes = found;
                return Ok(());
            }
            if gone.is_some_and(|since| since.elapsed() > LINGER) {
                return Err(self.silent(client, id));
            }
            if gone.is_none() && asked.elapsed() > ASK {
                asked = Instant::now();
                match state(client, id) {
                    Ok(Some((state, reason))) => {
                        if state == "PENDING" {
                            let about = About {
                                job: Some(id),
                                ..About::default()
                            };
                            let words = reason::explain(&reason, &about);
                            if words.words != said {
                                eprintln!("job {id} waits: {}", words.words);
                                said = words.words.clone();
                            }
                            if words.stuck || start.elapsed() > request.wait {
                                let _ = client.run("scancel", [id]);
                                return Err(not_started(id, &words, start.elapsed()));
                            }
                        }
                    }
                    Ok(None) => gone = Some(Instant::now()),
                    // The controller may be back soon; the files tell as well.
                    Err(_) => {}
                }
            }
            if start.elapsed() > request.wait + Duration::from_secs(300) {
                let _ = client.run("scancel", [id]);
                return Err(self.silent(client, id));
            }
            if gone.is_some() {
                // A look at the folder makes NFS ask the server anew.
                let _ = fs::read_dir(&self.dir).map(Iterator::count);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The job is gone and has not left its results here.
    fn silent(&self, client: &Client, id: &str) -> Finding {
        let text = client
            .run("scontrol", ["show", "job", "-o", id])
            .unwrap_or_default();
        let field = |name: &str| {
            text.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or("unknown")
        };
        let output = fs::read_to_string(self.dir.join("job.out")).unwrap_or_default();
        let met = (0..self.nodes)
            .filter(|rank| self.dir.join(probe::hello_name(*rank)).exists())
            .count();
        let what = format!(
            "job {id} on {} ended as {} (exit code {})",
            field("NodeList"),
            field("JobState"),
            field("ExitCode")
        );
        if met == 0 && output.is_empty() {
            return Finding::problem(format!(
                "{what} and nothing that it wrote is seen here: the nodes do not see the runs root, or may not write it"
            ))
            .advice("name a folder that this machine and the nodes share, with --runs DIR or in ROCKET_RUNS");
        }
        let said: Vec<&str> = output
            .lines()
            .filter(|line| !line.trim().is_empty())
            .take(3)
            .collect();
        Finding::problem(format!(
            "{what}; {met} of {} processes were seen; it said: {}",
            self.nodes,
            if said.is_empty() {
                "nothing".into()
            } else {
                said.join(" / ")
            }
        ))
    }
}

fn refused(failure: &Failure) -> Finding {
    Finding::problem(format!("the job was not taken: {}", failure.words))
        .advice("--partition, --account and --qos say what this cluster demands")
}

fn not_started(id: &str, words: &reason::Explained, after: Duration) -> Finding {
    let finding = Finding::warning(format!(
        "job {id} had not started after {} s and was cancelled: {}",
        after.as_secs(),
        words.words
    ));
    match &words.action {
        Some(action) => finding.advice(action.clone()),
        None => finding.advice("wait longer with --wait SECONDS, or name a partition that is free"),
    }
}

/// State and reason of a job that is queued or runs; `None` if it is gone.
fn state(client: &Client, id: &str) -> Result<Option<(String, String)>, Failure> {
    match client.run("squeue", ["-h", "-j", id, "-o", "%T|%r"]) {
        Ok(text) => Ok(text
            .trim()
            .split_once('|')
            .map(|(state, reason)| (state.to_owned(), reason.to_owned()))),
        Err(failure) if failure.words.contains("Invalid job id") => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// As one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
