//! A cluster, an ordinary user and their project on it; their runs.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::user::place_programs;
use super::{Cluster, User};
use crate::{Project, Text, last_step, run, run_id};

/// A machine with two cores may take this long for what takes seconds elsewhere.
const PATIENCE: Duration = Duration::from_secs(240);

/// A cluster and a user's project on it. Runs and cluster end when it is dropped.
#[derive(Debug)]
pub struct Site {
    // Dropped in this order: runs are cancelled while there is a cluster.
    project: Project,
    cluster: Cluster,
    user: User,
    turn: Mutex<()>,
}

/// A run that the user submitted.
#[derive(Debug)]
pub struct Run<'a> {
    site: &'a Site,
    /// Its id.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
}

impl Site {
    /// Starts the cluster with settings of `scripts/cluster.sh`. `None` where there can be none and that
    /// is allowed; it is said.
    ///
    /// # Panics
    /// Something does not start.
    #[must_use]
    pub fn new(max_steps: u64, settings: &[(&str, &str)]) -> Option<Self> {
        let cluster = Cluster::start(settings)?;
        let folder = cluster.folder();
        let user = User::ordinary(&folder.join("home"));
        let env = vec![("SLURM_CONF".to_owned(), cluster.conf().into_os_string())];
        let programs = place_programs(folder);
        let project = Project::of_user(max_steps, folder, &user, programs, env);
        Some(Self {
            project,
            cluster,
            user,
            turn: Mutex::new(()),
        })
    }

    /// The project.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// `rocket submit` as the user, with overrides; its output whatever comes.
    pub fn try_submit(&self, set: &[&str]) -> Output {
        self.submit_command(set).output().expect("rocket starts")
    }

    /// The command that [`Self::try_submit`] runs.
    pub fn submit_command(&self, set: &[&str]) -> Command {
        let mut command = self.project.command("rocket");
        command.args(["submit", "exp.yaml", "--again"]);
        for value in ["cluster.backend=slurm", "train.print_freq=1"]
            .iter()
            .chain(set)
        {
            command.args(["--set", value]);
        }
        command
    }

    /// Submits with overrides, as the user.
    ///
    /// # Panics
    /// It is refused.
    pub fn submit(&self, set: &[&str]) -> Run<'_> {
        // Two of the same at the same moment would find the same free id, of which one is refused.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let output = self.try_submit(set);
        assert!(
            output.status.success(),
            "{}{}\n{}",
            output.out(),
            output.err(),
            self.cluster.report()
        );
        self.run(&output)
    }

    /// The run that an output of `rocket submit` names.
    ///
    /// # Panics
    /// It names none.
    pub fn run(&self, output: &Output) -> Run<'_> {
        self.named(run_id(&output.ok()))
    }

    /// The run of an id.
    pub fn named(&self, id: String) -> Run<'_> {
        Run {
            dir: self.project.path().join("runs").join(&id),
            id,
            site: self,
        }
    }
}

impl Run<'_> {
    /// Number of the job that was handed to Slurm last.
    ///
    /// # Panics
    /// None was.
    #[must_use]
    pub fn job(&self) -> u32 {
        let mut numbers: Vec<PathBuf> = fs::read_dir(self.dir.join("submissions"))
            .expect("submissions")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with(".job.json"))
            .collect();
        numbers.sort();
        let last = numbers.pop().expect("a job");
        let record: Value =
            serde_json::from_slice(&fs::read(last).expect("a record")).expect("JSON");
        let id = ["job", "job_id", "id"].iter().find_map(|key| {
            let value = &record[key];
            value.as_u64().or_else(|| value.as_str()?.parse().ok())
        });
        u32::try_from(id.expect("a job id")).expect("a job id")
    }

    /// Everything that happened so far, in the order that `rocket show` gives it.
    ///
    /// # Panics
    /// The run cannot be read.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let text = self.site.project.rocket(&["show", &self.id, "--json"]).ok();
        let mut show: Value = serde_json::from_str(&text).expect("JSON");
        match show["events"].take() {
            Value::Array(events) => events,
            other => panic!("no events: {other}"),
        }
    }

    /// How often an event of this name happened; reads the files, for tight loops.
    #[must_use]
    pub fn count(&self, event: &str) -> usize {
        self.raw_events()
            .iter()
            .filter(|line| line["event"] == event)
            .count()
    }

    fn raw_events(&self) -> Vec<Value> {
        let Ok(files) = fs::read_dir(self.dir.join("events")) else {
            return Vec::new();
        };
        files
            .flatten()
            .flat_map(|file| {
                let text = fs::read_to_string(file.path()).unwrap_or_default();
                text.lines()
                    .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Asserts that events of these names happened in this order, others between them.
    ///
    /// # Panics
    /// They did not.
    pub fn tells(&self, wanted: &[&str]) {
        let mut left = wanted.iter();
        let mut next = left.next();
        for event in self.events() {
            if next.is_some_and(|name| event["event"] == **name) {
                next = left.next();
            }
        }
        assert!(
            next.is_none(),
            "'{}' is not told in its place of {wanted:?}\n{}",
            next.unwrap_or(&""),
            self.report()
        );
    }

    /// Names of what happened, in order, of those that are asked for.
    #[must_use]
    pub fn story(&self, wanted: &[&str]) -> Vec<String> {
        let name = |event: &Value| event["event"].as_str().unwrap_or_default().to_owned();
        let mut story: Vec<String> = self.events().iter().map(name).collect();
        story.retain(|name| wanted.contains(&name.as_str()));
        story
    }

    /// Waits for a condition.
    ///
    /// # Panics
    /// It does not come within four minutes, or the run fails meanwhile.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !wanted(self) {
            assert!(
                self.count("failed") == 0 || what.contains("failure"),
                "the run failed while {what} was waited for\n{}",
                self.report()
            );
            assert!(
                start.elapsed() < PATIENCE,
                "no {what} within {} s\n{}",
                PATIENCE.as_secs(),
                self.report()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a step.
    pub fn reach(&self, step: u64) {
        self.wait(&format!("step {step}"), |run| last_step(&run.dir) >= step);
    }

    /// Waits for an event to have happened so often.
    pub fn happens(&self, event: &str, times: usize) {
        self.wait(&format!("'{event}' ({times})"), |run| {
            run.count(event) >= times
        });
    }

    /// Slows the run down without work for the machine: a rank, and with it all, sleeps for most of a second
    /// and then goes on for a moment.
    pub fn doze(&self, rank: u32) {
        let pause = Duration::from_millis(900);
        let beat = run::attempt(&self.dir).map(|dir| dir.join(format!("ranks/{rank}.beat.json")));
        if !beat.is_some_and(|beat| beat.exists()) {
            return std::thread::sleep(pause / 4);
        }
        let pid = run::pid_of_rank(&self.dir, rank).to_string();
        for (signal, pause) in [("-STOP", pause), ("-CONT", pause / 15)] {
            // It may be gone meanwhile, which is as well.
            let _ = Command::new("kill").args([signal, &pid]).output();
            std::thread::sleep(pause);
        }
    }

    /// Waits for the end, which must be a good one.
    pub fn finished(&self) {
        self.happens("finished", 1);
    }

    /// What somebody wants to see when a test fails: events, logs, the queue.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = format!("--- run {}\n", self.dir.display());
        let mut events = self.raw_events();
        events.sort_by_key(|event| event["time"].as_str().unwrap_or_default().to_owned());
        for event in &events {
            text += &format!("{event}\n");
        }
        let mut logs = vec![self.dir.join("supervisor.out")];
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".log") || name.starts_with("slurm") {
                logs.push(entry.path());
            }
        }
        if let Some(attempt) = run::attempt(&self.dir) {
            logs.push(attempt.join("supervisor.log"));
            logs.push(attempt.join("ranks/0.log"));
            logs.push(attempt.join("ranks/1.log"));
        }
        for log in logs {
            if let Ok(said) = fs::read_to_string(&log) {
                text += &format!("--- {}\n{}", log.display(), crate::tail(&said, 30));
            }
        }
        text + &self.site.cluster.report()
    }
}
