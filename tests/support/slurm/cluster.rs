//! The cluster: started and ended by `scripts/cluster.sh`, in a folder and on ports of its own.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::user::open_folder;
use crate::Text;

/// What Slurm says of a job: `JobState`, `NodeList` and so on.
pub type Job = BTreeMap<String, String>;

/// Ports are taken from here up, below those that Linux gives to whoever asks for none.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 8;
const ROOM: u16 = 1_000;
/// The cluster within its folder.
const DIR: &str = "cluster";

/// Four nodes of eight GPUs. Ended when dropped, and also when this process is killed.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    port: u16,
    settings: Vec<(String, String)>,
    guard: Child,
}

impl Cluster {
    /// Starts it with settings of `scripts/cluster.sh`. `None` where there can be no Slurm, which is
    /// said.
    ///
    /// # Panics
    /// It does not start although it should; with `CI=true` it always should.
    #[must_use]
    pub fn start(settings: &[(&str, &str)]) -> Option<Self> {
        let possible = script().arg("packages").output().expect("the script runs");
        let root = Command::new("id")
            .arg("-u")
            .output()
            .expect("id")
            .out()
            .trim()
            == "0";
        if !possible.status.success() || !root {
            let why = match root {
                true => possible.err(),
                false => "error: a Slurm cluster must be started by root".to_owned(),
            };
            let everything = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!everything, "no Slurm test may be skipped here.\n{why}");
            eprintln!("skipped: {why}");
            return None;
        }
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let settings: Vec<(String, String)> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for _ in 0..20 {
            let turn = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id() * 7;
            let port = FIRST_PORT + PORTS * (turn % u32::from(ROOM)) as u16;
            let folder = open_folder("rocket-slurm-");
            let guard = guard(folder.path());
            let cluster = Self {
                folder,
                port,
                settings: settings.clone(),
                guard,
            };
            let output = cluster.script("up", &[]);
            if output.status.success() {
                return Some(cluster);
            }
            let said = output.err();
            assert!(
                said.contains("is in use"),
                "the cluster does not start: {said}"
            );
        }
        panic!("no free ports for a cluster");
    }

    /// A folder that everybody can enter and that goes with the cluster, however that ends.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its `slurm.conf`.
    #[must_use]
    pub fn conf(&self) -> PathBuf {
        self.dir().join("slurm.conf")
    }

    fn dir(&self) -> PathBuf {
        self.folder().join(DIR)
    }

    /// Its log folder.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// Runs one of Slurm's programs as root.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program)
            .args(args)
            .current_dir("/")
            .env("SLURM_CONF", self.conf())
            .output()
            .expect("Slurm's programs are installed")
    }

    /// All jobs that the controller knows, by id.
    ///
    /// # Panics
    /// The controller does not answer.
    #[must_use]
    pub fn jobs(&self) -> BTreeMap<u32, Job> {
        let text = self.run("scontrol", &["show", "job", "--oneliner"]).ok();
        text.lines()
            .map(parse)
            .filter_map(|job| Some((job.get("JobId")?.parse().ok()?, job)))
            .collect()
    }

    /// A job.
    ///
    /// # Panics
    /// The controller does not know it.
    #[must_use]
    pub fn job(&self, id: u32) -> Job {
        let id = id.to_string();
        parse(
            &self
                .run("scontrol", &["show", "job", "--oneliner", &id])
                .ok(),
        )
    }

    /// Takes whole nodes (as in `n[1-2]`, or a number of any) for some seconds with a job that preempts
    /// those of other partitions. Gives its id.
    ///
    /// # Panics
    /// It is refused.
    pub fn occupy(&self, nodes: &str, seconds: u32) -> u32 {
        let place = match nodes.parse::<u32>() {
            Ok(count) => format!("--nodes={count}"),
            Err(_) => format!("--nodelist={nodes}"),
        };
        let wait = format!("exec sleep {seconds}");
        let said = self.run(
            "sbatch",
            &[
                "--parsable",
                "--partition=high",
                "--exclusive",
                "--job-name=important",
                "--output=/dev/null",
                &place,
                "--wrap",
                &wait,
            ],
        );
        said.ok().trim().parse().expect("a job id")
    }

    /// Waits until a job satisfies `wanted`.
    ///
    /// # Panics
    /// It does not within a generous time.
    pub fn wait_for_job(&self, id: u32, what: &str, wanted: impl Fn(&Job) -> bool) -> Job {
        let start = Instant::now();
        loop {
            let job = self.job(id);
            if wanted(&job) {
                return job;
            }
            assert!(
                start.elapsed() < Duration::from_secs(180),
                "job {id}: no {what} within three minutes: {job:#?}\n{}",
                self.report()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A node is lost: its slurmd dies at once, and what it started lives on.
    pub fn kill_slurmd(&self, node: &str) {
        self.script("kill", &[node]).ok();
    }

    /// A node comes back.
    pub fn start_slurmd(&self, node: &str) {
        self.script("start", &[node]).ok();
    }

    /// The controller ends, in order.
    pub fn stop_slurmctld(&self) {
        self.script("stop", &["slurmctld"]).ok();
    }

    /// The controller comes back.
    pub fn start_slurmctld(&self) {
        self.script("start", &["slurmctld"]).ok();
    }

    /// What somebody wants to see when a test fails: queue, nodes, and the controller's last words.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = String::from("--- squeue\n");
        text += &self.run("squeue", &["--all", "--states=all"]).out();
        text += "--- sinfo\n";
        text += &self
            .run("sinfo", &["--Node", "--long", "--partition=high"])
            .out();
        for log in ["slurmctld.log", "n1.log"] {
            let log = std::fs::read_to_string(self.logs().join(log)).unwrap_or_default();
            text += "--- log\n";
            text += &crate::tail(&log, 12);
        }
        text
    }

    fn script(&self, verb: &str, args: &[&str]) -> Output {
        let settings = self.settings.iter().map(|(name, value)| (name, value));
        script()
            .arg(verb)
            .args(args)
            .env("CLUSTER_DIR", self.dir())
            .env("CLUSTER_PORT", self.port.to_string())
            .envs(settings)
            .output()
            .expect("the script runs")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Closing its input lets the guard end the cluster.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn script() -> Command {
    let mut command = Command::new(crate::root().join("scripts/cluster.sh"));
    for name in [
        "DIR",
        "PORT",
        "GRACE",
        "KILL_WAIT",
        "SLURMD_TIMEOUT",
        "EXTRA",
    ] {
        command.env_remove(format!("CLUSTER_{name}"));
    }
    command
}

/// A process that ends the cluster and removes the folder when the other end of its input closes, as it
/// does when this process ends, in whatever way.
fn guard(folder: &Path) -> Child {
    Command::new("sh")
        .args(["-c", "read -r nothing; \"$0\" down; rm -rf -- \"$1\""])
        .arg(crate::root().join("scripts/cluster.sh"))
        .arg(folder)
        .env("CLUSTER_DIR", folder.join(DIR))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("sh starts")
}

/// `Key=value` words of one line; a value runs to the next word that begins like a key.
fn parse(line: &str) -> Job {
    let mut job = Job::new();
    let mut last: Option<String> = None;
    for word in line.trim().split(' ') {
        let key = word.split_once('=').filter(|(key, _)| {
            key.starts_with(|letter: char| letter.is_ascii_uppercase())
                && key
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "/:_".contains(c))
        });
        match (key, &last) {
            (Some((key, value)), _) => {
                job.insert(key.to_owned(), value.to_owned());
                last = Some(key.to_owned());
            }
            (None, Some(key)) => {
                let value = job.entry(key.clone()).or_default();
                value.push(' ');
                value.push_str(word);
            }
            (None, None) => {}
        }
    }
    job
}
