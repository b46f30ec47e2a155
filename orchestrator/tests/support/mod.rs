//! A test's own world: a git repository, a home, and runs that end with the test.
#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything should take, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Env {
    dir: TempDir,
}

/// What a command printed, with the changeable parts named.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn fails(self) -> Self {
        assert_eq!(self.code, Some(1), "{}{}", self.stdout, self.stderr);
        self
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.stdout.is_empty() {
            write!(f, "{}", self.stdout)?;
        }
        if !self.stderr.is_empty() {
            write!(f, "--- stderr\n{}", self.stderr)?;
        }
        Ok(())
    }
}

impl Env {
    /// A repository with one commit that holds `README`.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let this = Self { dir };
        fs::create_dir_all(this.repo()).unwrap();
        fs::create_dir_all(this.path("home")).unwrap();
        this.git(&["init", "--quiet", "--initial-branch=main", "."]);
        this.write("README", "a repository\n");
        this.commit();
        this
    }

    /// With `job.sh`, which is run by bash, and `exp.yaml`, which runs it on so many ranks.
    pub(crate) fn with_job(script: &str, ranks: u32) -> Self {
        let this = Self::new();
        this.write("job.sh", &format!("#!/bin/bash\n{script}\n"));
        fs::set_permissions(
            this.repo().join("job.sh"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        this.commit();
        this.write("exp.yaml", &experiment(ranks));
        this
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.repo().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "a commit"]);
    }

    /// Commits everything but `exp.yaml`, which stays the user's own.
    pub(crate) fn commit_but_not_experiment(&self) {
        self.git(&["add", "--all", "--", ".", ":!exp.yaml"]);
        self.git(&["commit", "--quiet", "--message", "another commit"]);
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.repo(), args)
    }

    pub(crate) fn git_in(&self, folder: &Path, args: &[&str]) -> String {
        let output = self
            .command(Path::new("git"), folder)
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {text}{error}");
        text
    }

    /// A command that sees nothing of the person who runs the tests.
    pub(crate) fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("TZ", "UTC")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Author")
            .env("GIT_AUTHOR_EMAIL", "author@example.org")
            .env("GIT_AUTHOR_DATE", "2024-01-02T03:04:05+0600")
            .env("GIT_COMMITTER_NAME", "Committer")
            .env("GIT_COMMITTER_EMAIL", "committer@example.org")
            .env("GIT_COMMITTER_DATE", "2024-02-03T04:05:06+0100");
        command
    }

    pub(crate) fn rocket_command(&self) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_rocket")), &self.repo())
    }

    pub(crate) fn rocket(&self, args: &[&str]) -> Said {
        self.said(self.rocket_command().args(args).output().unwrap())
    }

    pub(crate) fn said(&self, output: Output) -> Said {
        Said {
            code: output.status.code(),
            stdout: self.filter(&String::from_utf8_lossy(&output.stdout)),
            stderr: self.filter(&String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Names what differs from test to test: the folder, ids, times, hosts, processes.
    fn filter(&self, text: &str) -> String {
        text.replace(&self.path("").display().to_string(), "[DIR]/")
            .replace(env!("CARGO_BIN_EXE_rocket"), "[ROCKET]")
    }

    /// Submits `exp.yaml` and gives the run's id.
    pub(crate) fn submit(&self, args: &[&str]) -> String {
        let mut all = vec!["submit", "exp.yaml"];
        all.extend(args);
        let said = self.rocket(&all).ok();
        let line = said.stdout.lines().next().unwrap_or_default();
        line.strip_prefix("run ")
            .unwrap_or_else(|| panic!("{said}"))
            .to_owned()
    }

    pub(crate) fn run_dir(&self, run: &str) -> PathBuf {
        self.repo().join("runs").join(run)
    }

    pub(crate) fn status(&self, run: &str) -> Value {
        let said = self.rocket(&["status", run, "--json"]).ok();
        serde_json::from_str::<Value>(&said.stdout).unwrap()[0].clone()
    }

    pub(crate) fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            if start.elapsed() > PATIENCE {
                let show = self.rocket(&["status"]);
                panic!("waited in vain for: {what}\n{show}\n{}", self.all_logs());
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    pub(crate) fn wait_for_status(&self, run: &str, status: &str) -> Value {
        self.wait(&format!("run {run} to be {status}"), || {
            self.status(run)["status"] == status
        });
        self.status(run)
    }

    /// Waits until a file in the run directory is there.
    pub(crate) fn wait_for_file(&self, run: &str, name: &str) {
        let path = self.run_dir(run).join(name);
        self.wait(&format!("{}", path.display()), || path.exists());
    }

    pub(crate) fn read_run(&self, run: &str, name: &str) -> String {
        let path = self.run_dir(run).join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The history of a run as `rocket show` prints it, without times and hosts.
    pub(crate) fn history(&self, run: &str) -> String {
        let show = self.rocket(&["show", run]).ok().stdout;
        let (_, history) = show.split_once("\nhistory\n").unwrap();
        history
            .lines()
            .map(|line| {
                let line = line.get(23..).unwrap_or(line).replace(run, "[RUN]");
                line.split(" on ")
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
                    + "\n"
            })
            .collect()
    }

    pub(crate) fn supervisor(&self, run: &str) -> Option<Pid> {
        let pid = self.status(run)["supervisor"]["pid"].as_i64()?;
        Some(Pid::from_raw(i32::try_from(pid).unwrap()))
    }

    pub(crate) fn kill_supervisor(&self, run: &str) {
        let pid = self.supervisor(run).expect("a living supervisor");
        kill(pid, Signal::SIGKILL).unwrap();
        self.wait("the supervisor to be gone", || !alive(pid));
    }

    fn all_logs(&self) -> String {
        let Ok(runs) = fs::read_dir(self.repo().join("runs")) else {
            return String::new();
        };
        let mut text = String::new();
        for run in runs
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join("run.json").exists())
        {
            let mut files = vec![run.join("supervisor.out")];
            for attempt in fs::read_dir(run.join("attempts"))
                .into_iter()
                .flatten()
                .flatten()
            {
                files.push(attempt.path().join("supervisor.log"));
                files.push(attempt.path().join("ranks/0.log"));
            }
            for file in files {
                let content = fs::read_to_string(&file).unwrap_or_default();
                text.push_str(&format!("== {}\n{content}", file.display()));
            }
        }
        text
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        // No supervisor may outlive its test.
        let output = self
            .rocket_command()
            .args(["status", "--json"])
            .output()
            .unwrap();
        let views: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        for view in views.as_array().into_iter().flatten() {
            if let Some(pid) = view["supervisor"]["pid"].as_i64() {
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
            }
        }
    }
}

/// An experiment that runs `job.sh`.
pub(crate) fn experiment(ranks: u32) -> String {
    format!(
        "name: job\ncommand: [./job.sh]\ncluster: {{backend: local, nodes: 1, tasks_per_node: {ranks}, stop_grace_seconds: 20}}\n"
    )
}

/// Whether a process runs; a zombie does not.
pub(crate) fn alive(pid: Pid) -> bool {
    rocket_common::host::start_ticks(pid.as_raw() as u32).is_some()
}

/// Settings for snapshots of what commands print.
#[macro_export]
macro_rules! assert_said {
    ($said:expr, @$snapshot:literal) => {
        insta::with_settings!({filters => vec![
            (r"\b[0-9a-f]{40}\b", "[COMMIT]"),
            (r"job-[0-9a-f]{8}\b", "job-[ID]"),
            (r"\b[0-9a-f]{16}\b", "[SHA16]"),
            (r"\b[0-9a-f]{12}\b", "[COMMIT12]"),
            (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[TIME]"),
        ]}, { insta::assert_snapshot!($said.to_string(), @$snapshot) });
    };
}
