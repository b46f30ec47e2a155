//! What a supervisor hears between attempts.

use std::time::Instant;

use nix::sys::signal::{Signal, raise};
use rocket_common::experiment::BackendKind;
use serde_json::json;

use super::*;
use crate::backend::{Handover, Launch, Liveness, Outlook, Running};

/// A scheduler that lets its job run.
struct Fake {
    job: Option<String>,
}

impl Backend for Fake {
    fn kind(&self) -> BackendKind {
        BackendKind::Slurm
    }

    fn submit(&self, _handover: &Handover<'_>) -> Result<Option<String>> {
        Ok(None)
    }

    fn outlook(&self, _run: &RunDir, _manifest: &Manifest) -> Result<Outlook> {
        Ok(Outlook::of(Liveness::Alive))
    }

    fn job(&self) -> Option<String> {
        self.job.clone()
    }

    fn nodes(&self) -> Vec<String> {
        vec!["n1".into()]
    }

    fn launch(&self, _launch: &Launch<'_>) -> Result<Running> {
        Err(Error::new(ExitKind::Internal, "nothing is launched here"))
    }
}

fn manifest() -> Manifest {
    let manifest = json!({
        "schema": 1,
        "run_id": "r-00000000",
        "name": "r",
        "commit": "",
        "parent_commit": "",
        "experiment_sha256": "",
        "recipe_hash": "",
        "bundle": {"dir": "", "files": {}},
        "created": "2026-01-01T00:00:00Z",
        "backend": "slurm",
        "experiment_path": "",
        "repo": "",
    });
    serde_json::from_value(manifest).unwrap()
}

fn supervisor_of<'a>(
    run: &'a RunDir,
    manifest: &'a Manifest,
    backends: &'a Backends,
    backend: &'a dyn Backend,
) -> Supervisor<'a> {
    Supervisor {
        run,
        manifest,
        backend,
        backends,
        log: Log::default(),
        leaving: None,
    }
}

/// One test, since a signal reaches every listener of the process.
#[test]
fn the_only_signal_of_a_scheduler_is_kept_between_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = manifest();
    let run = RunDir::create(dir.path(), &manifest, "").unwrap();
    let backends = Backends::default();
    let long = Duration::from_secs(600);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut signals = Signals::new().unwrap();
        // Nobody takes the nodes away: there is nothing to stop.
        let local = Fake { job: None };
        let mut supervisor = supervisor_of(&run, &manifest, &backends, &local);
        raise(Signal::SIGUSR1).unwrap();
        let wait = Duration::from_millis(100);
        supervisor.wait(wait, &mut signals).await;
        assert_eq!(supervisor.leaving, None);

        let slurm = Fake {
            job: Some("9".into()),
        };
        let mut supervisor = supervisor_of(&run, &manifest, &backends, &slurm);
        let start = Instant::now();
        raise(Signal::SIGUSR1).unwrap();
        supervisor.wait(long, &mut signals).await;
        assert_eq!(supervisor.leaving, Some(StopReason::TimeLimit));
        // The first reason stays.
        raise(Signal::SIGTERM).unwrap();
        supervisor.wait(long, &mut signals).await;
        assert_eq!(supervisor.leaving, Some(StopReason::TimeLimit));
        supervisor.leaving = None;
        supervisor.heard(StopReason::Cancelled);
        assert_eq!(supervisor.leaving, None);
        raise(Signal::SIGTERM).unwrap();
        supervisor.wait(long, &mut signals).await;
        assert_eq!(supervisor.leaving, Some(StopReason::Signal));

        let report = Report {
            ending: Ending::Crashed {
                rank: 0,
                cause: "words".into(),
            },
            step: 0,
            node: None,
            stop: None,
        };
        let attempt = run.attempt(0);
        let place = supervisor.place(&report, &attempt, &mut signals).await;
        assert!(place.scheduled);
        assert_eq!(place.leaving, Some(StopReason::Signal));
        requests::cancel(&run, requests::Cancel { now: false }).unwrap();
        let place = supervisor.place(&report, &attempt, &mut signals).await;
        assert_eq!(place.leaving, None, "it is to end, not to go on elsewhere");
        supervisor.wait(long, &mut signals).await;
        assert!(start.elapsed() < long);
    });
}
